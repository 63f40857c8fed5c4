/** The ratings page: draws each kind of judges' ratings, again when the theme changes. */
import { CONFIG, look } from "./look.js";
import { ratingFigure } from "./ratings_chart.js";

const found = JSON.parse(document.getElementById("ratings-drawn").textContent);
const plots = [...document.querySelectorAll("[data-ratings]")];

function draw() {
  for (const plot of plots) {
    const { data, layout } = ratingFigure(found[plot.dataset.ratings], look(), plot.clientWidth);
    plot.querySelector(".skeleton")?.remove();
    Plotly.react(plot, data, layout, { ...CONFIG, displayModeBar: false });
  }
}

draw();
document.addEventListener("themechange", draw);
