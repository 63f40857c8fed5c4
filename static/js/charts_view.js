/** All charts of a page: their feed, their shared axis, smoothing and zoom, all kept in the URL. */
import { AXES, served } from "./axis.js";
import { createChart } from "./chart.js";
import { createFeed } from "./feed.js";
import { look } from "./look.js";
import { scheduler } from "./redraw.js";

const GROWTH = 1.15;

/** Start the charts below `root`; gives the feed, or null when the page has none. */
export function chartsView(root, send) {
  const figures = [...root.querySelectorAll("[data-chart]")];
  if (!figures.length) return null;
  const view = { ...fromUrl(), origin: Number(root.dataset.began), domain: [0, 1], look: look(), seams: json("seams"), marks: json("marks"), ended: "ended" in root.dataset };
  const charts = figures.map((figure) => createChart(figure, zoom));
  const scheduled = scheduler((chart) => chart.draw(feed.curves(), { ...view, before: feed.before() }), (chart) => {
    feed.want(chart.keys);
    if (chart.element.dataset.status) scheduled.mark([chart]);
  });
  const attempt = new URLSearchParams(location.search).get("attempt");
  const feed = createFeed({ run: root.dataset.run, attempt, url: root.dataset.seriesUrl, lineageUrl: root.dataset.lineageUrl, send, changed, failed });
  feed.look({ axis: served(view.axis), range: view.range });
  charts.forEach((chart) => scheduled.add(chart));

  function changed(keys) {
    const touched = new Set(keys);
    const before = String(view.domain);
    view.domain = domain(feed.curves(), feed.before(), view);
    const moved = String(view.domain) !== before;
    scheduled.mark(charts.filter((chart) => moved || chart.keys.some((key) => touched.has(key))));
    for (const chart of charts) delete chart.element.dataset.failed;
  }

  function failed(error) {
    for (const chart of charts) {
      chart.element.dataset.failed = "";
      chart.element.querySelector("[data-problem]").textContent = `The curves did not come: ${error.message}.`;
    }
  }

  function zoom(range) {
    const narrowed = view.range !== null;
    view.range = range;
    toUrl(view);
    showZoom(root, range);
    // Raw detail is worth a request only where points were left out.
    const reduced = Object.values(feed.curves()).some((curve) => curve.reduced);
    if (reduced || narrowed) feed.look({ range });
    scheduled.mark(charts);
  }

  for (const button of root.querySelectorAll("[data-axis]")) {
    press(root, view.axis);
    button.addEventListener("click", () => {
      view.axis = button.dataset.axis;
      view.range = null;
      press(root, view.axis);
      showZoom(root, null);
      toUrl(view);
      feed.look({ axis: served(view.axis), range: null });
    });
  }
  const slider = root.querySelector("[data-smoothing]");
  if (slider) {
    slider.value = view.smoothing;
    slider.addEventListener("input", () => {
      view.smoothing = Number(slider.value);
      toUrl(view);
      scheduled.mark(charts);
    });
  }
  root.querySelector("[data-zoom-out]")?.addEventListener("click", () => zoom(null));
  showZoom(root, view.range);
  document.addEventListener("themechange", () => { view.look = look(); scheduled.mark(charts); });
  printLight((colours) => {
    view.look = colours;
    for (const chart of charts) chart.draw(feed.curves(), { ...view, before: feed.before() });
  });
  root.addEventListener("click", (event) => event.target.closest("[data-retry]") && feed.load());
  const reseam = (found) => { view.seams = found; scheduled.mark(charts); };
  return { feed, reseam, seams: () => view.seams.length, ended() { view.ended = true; scheduled.mark(charts); } };
}

const json = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "[]");

/** Paper is white: charts take the light colours while the page is printed. */
function printLight(draw) {
  const root = document.documentElement;
  let chosen = "";
  addEventListener("beforeprint", () => {
    chosen = root.dataset.theme;
    root.dataset.theme = "light";
    draw(look());
  });
  addEventListener("afterprint", () => {
    root.dataset.theme = chosen;
    draw(look());
  });
}

/** Where the curves lie on the axis. While they grow it grows ahead of them, so that it seldom moves. */
function domain(curves, before, { axis, ended, origin }) {
  const ancestors = Object.values(before).flat().map((segment) => segment.curve);
  const ends = [...Object.values(curves), ...ancestors].filter(({ x }) => x.length).flatMap(({ x }) => [x[0], x[x.length - 1]]);
  if (!ends.length) return [0, 1];
  const low = { time: Math.min(...ends), relative: Math.min(origin, ...ends) }[axis] ?? Math.min(0, ...ends);
  const span = Math.max(...ends) - low || 1;
  const wide = ended ? span : GROWTH ** Math.ceil(Math.log(span * 1.001) / Math.log(GROWTH));
  return [low - wide * 0.015, low + wide * 1.015];
}

function press(root, axis) {
  for (const button of root.querySelectorAll("[data-axis]")) button.setAttribute("aria-pressed", String(button.dataset.axis === axis));
}

function showZoom(root, range) {
  const button = root.querySelector("[data-zoom-out]");
  if (button) button.hidden = range === null;
}

function fromUrl() {
  const query = new URLSearchParams(location.search);
  const [low, high] = [query.get("from"), query.get("to")].map((text) => (text === null ? NaN : Number(text)));
  const smoothing = Number(query.get("smooth") ?? 0.6);
  return {
    axis: AXES.includes(query.get("x")) ? query.get("x") : "step",
    smoothing: smoothing >= 0 && smoothing < 1 ? smoothing : 0.6,
    range: Number.isFinite(low) && Number.isFinite(high) ? [low, high] : null,
  };
}

function toUrl({ axis, smoothing, range }) {
  const query = new URLSearchParams(location.search);
  for (const name of ["x", "from", "to", "smooth"]) query.delete(name);
  if (axis !== "step") query.set("x", axis);
  if (smoothing !== 0.6) query.set("smooth", smoothing);
  if (range) [query.set("from", Number(range[0].toPrecision(12))), query.set("to", Number(range[1].toPrecision(12)))];
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}
