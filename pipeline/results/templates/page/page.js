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

// The Vega-Lite of a chart. That of a gallery gets the logits of the card, as one row for each net and class.
function specOf(chart) {
  const spec = read(chart.dataset.spec);
  if (!chart.dataset.logits) return spec;
  const { logits, ...own } = read(chart.dataset.logits);
  const last = own.names.length - 1;
  const values = logits.flatMap((of, net) => of.map((z, place) => ({ net, place: Math.min(place, last), z })));
  const params = spec.params.map((param) => (param.name in own ? { ...param, value: own[param.name] } : param));
  return { ...spec, params, data: { values } };
}

// Expressions are walked, not compiled (`ast`): so the page's policy forbids to make code from text.
async function draw(chart) {
  try {
    const options = { renderer: "svg", actions: false, ast: true, config: theme };
    const inner = chart.appendChild(document.createElement("div")); // because Vega gives it another role and label
    const choices = chart.parentElement.querySelector(":scope > .choices"); // beside the chart, which is an image to those who hear
    if (choices) options.bind = choices;
    chart.view = (await vegaEmbed(inner, specOf(chart), options)).view;
    for (const input of choices?.querySelectorAll("input") ?? []) input.name += chart.dataset.chart; // or chapters share one
    await soften(chart);
  } catch (error) {
    chart.textContent = "This chart could not be drawn.";
    console.error(chart.dataset.chart, error);
  }
}

// Gives the chart of a card the temperature of its gallery.
async function soften(chart) {
  const T = Number(chart.closest(".gallery")?.dataset.temperature);
  if (chart.view && T && chart.view.signal("T") !== T) await chart.view.signal("T", T).runAsync();
}

// The slider of a gallery: cards in sight follow at once, all at a time; the others while it rests.
function slider(gallery) {
  const charts = gallery.querySelectorAll("[data-chart]");
  const [input, output] = [gallery.querySelector("input"), gallery.querySelector("output")];
  const buttons = gallery.querySelectorAll("button");
  let busy = false;

  async function follow() {
    if (busy) return;
    busy = true;
    for (let T; T !== gallery.dataset.temperature; ) {
      T = gallery.dataset.temperature;
      await Promise.all([...charts].filter((chart) => !away(chart)).map(soften));
      for (const chart of nearest(charts)) {
        await pause();
        if (T !== gallery.dataset.temperature) break;
        await soften(chart);
      }
    }
    busy = false;
  }

  function set(T) {
    gallery.dataset.temperature = T;
    output.value = T < 999 ? T.toPrecision(3) : T.toFixed(0);
    input.setAttribute("aria-valuetext", `T = ${output.value}`);
    for (const button of buttons) button.setAttribute("aria-pressed", Number(button.value) === T);
    follow();
  }

  input.addEventListener("input", () => set(2 ** input.valueAsNumber)); // a logarithmic scale
  for (const button of buttons) {
    button.addEventListener("click", () => {
      input.value = Math.log2(Number(button.value));
      set(Number(button.value));
    });
  }
  set(1); // a browser may have kept another value from before
  input.value = 0;
}
document.querySelectorAll(".gallery").forEach(slider);

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

// The contents are open where they stand beside the text, and say which section one reads.
const wide = matchMedia("(min-width: 72rem)");
const fold = () => (document.getElementById("contents").open = wide.matches);
wide.addEventListener("change", fold);
fold();
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const reading = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) links.get(target.id)?.setAttribute("aria-current", "true");
    else links.get(target.id)?.removeAttribute("aria-current");
  }
}, { rootMargin: "-20% 0px -80% 0px" }); // a line near the top
document.querySelectorAll("main > section").forEach((section) => reading.observe(section));
