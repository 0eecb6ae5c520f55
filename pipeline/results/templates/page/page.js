// Draws every chart of the page from the Vega-Lite beside it, in the colours of the text around it.
const theme = JSON.parse(document.getElementById("theme").textContent);
for (const chart of document.querySelectorAll("[data-chart]")) {
  const spec = JSON.parse(document.querySelector(`[data-spec="${CSS.escape(chart.dataset.chart)}"]`).textContent);
  vegaEmbed(chart, spec, { renderer: "svg", actions: false, config: theme });
}
