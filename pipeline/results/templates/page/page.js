// Draws the charts of the page from the Vega-Lite in it, in the colours of the text around them: what is in sight first, the
// rest bit by bit, so that the page answers at once, however many they are, and prints whole.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const theme = read("theme");
const pause = () => new Promise((done) => setTimeout(done)); // in which the browser does what waits

// How many pixels an element is out of sight.
const away = (element) => {
  const { top, bottom } = element.getBoundingClientRect();
  return Math.max(top - innerHeight, -bottom, 0);
};
const nearest = (elements) => [...elements].sort((one, other) => away(one) - away(other));

// Strings of expressions are walked, not compiled (`ast`): so the page's policy forbids to make code from text.
async function draw(chart) {
  try {
    const options = { renderer: "svg", actions: false, ast: true, config: theme };
    chart.view = (await vegaEmbed(chart, read(chart.dataset.spec), options)).view;
  } catch (error) {
    chart.textContent = "This chart could not be drawn.";
    console.error(chart.dataset.chart, error);
  }
}

(async () => {
  const waiting = new Set(document.querySelectorAll("[data-chart]"));
  while (waiting.size) {
    const [next] = nearest(waiting);
    waiting.delete(next);
    await draw(next);
    await pause();
  }
  document.documentElement.dataset.drawn = ""; // all of them
})();

// The contents are open where they stand beside the text.
const wide = matchMedia("(min-width: 72rem)");
const fold = () => (document.getElementById("contents").open = wide.matches);
wide.addEventListener("change", fold);
fold();
