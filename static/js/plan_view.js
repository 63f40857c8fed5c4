/** The card of the execution plan: asked for when it is seen, and again while the run goes on. */
import { duration } from "./format.js";
import { CONFIG, look } from "./look.js";
import { planFigure } from "./plan_chart.js";

const EVERY = 2000;
const LONGEST = 10_000;
const PIECES = [".plan-phases", ".plan-steps .scroll", ".plan-kept"];

export function planView(element) {
  if (!element) return { refresh() {} };
  const [told, problem, said, plot, part] = ["told", "problem", "said", "plot", "part"].map((name) => element.querySelector(`[data-plan-${name}]`));
  let timer = null;
  let seen = false;
  let stale = true;
  let asking = false;
  let asked = null;
  let plan = null;

  async function load() {
    timer = null;
    if (asking) return refresh();
    if (!seen || document.hidden) return void (stale = true);
    [stale, asking] = [false, true];
    try {
      const answer = await fetch(element.dataset.url, { headers: { "HX-Request": "true" }, signal: AbortSignal.timeout(LONGEST) });
      if (answer.redirected || answer.status === 401) throw new Error("you are signed out; load the page again");
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      show(await answer.text());
      asked = Date.now();
      problem.hidden = true;
      delete element.dataset.failed;
    } catch (error) {
      element.dataset.failed = "";
      problem.hidden = false;
      const why = error instanceof TypeError || error.name === "TimeoutError" ? "the server does not answer" : error.message;
      const old = asked === null ? "The plan did not come" : `This plan is ${duration((Date.now() - asked) / 1000)} old`;
      problem.querySelector("[data-plan-why]").textContent = `${old}: ${why}.`;
      if (asked === null) told.textContent = "";
    } finally {
      asking = false;
    }
  }

  function show(text) {
    const fresh = document.createElement("template");
    fresh.innerHTML = text;
    plan = JSON.parse(fresh.content.querySelector("#plan-drawn").textContent);
    told.textContent = fresh.content.querySelector("[data-plan-words]").dataset.planWords;
    draw();
    // What it comes to stands above the bars, the tables below them.
    const words = fresh.content.querySelector(".plan-said");
    words?.remove();
    if (!isMarked(said)) said.replaceChildren(...(words ? [words] : []));
    if (!isMarked(part)) replace(part, fresh.content);
  }

  function draw() {
    plot.hidden = !plan?.lines.length;
    if (plot.hidden) return;
    const { data, layout } = planFigure(plan, look());
    Plotly.react(plot, data, layout, { ...CONFIG, displayModeBar: false });
  }

  const refresh = () => { timer ??= setTimeout(load, EVERY); };
  const turn = () => seen && stale && load();
  new IntersectionObserver((entries) => { seen = entries.at(-1).isIntersecting; turn(); }, { rootMargin: "240px" }).observe(element);
  document.addEventListener("visibilitychange", turn);
  document.addEventListener("themechange", draw);
  addEventListener("beforeprint", draw);
  addEventListener("afterprint", draw);
  element.querySelector("[data-plan-retry]").addEventListener("click", load);
  return { refresh };
}

/** Put new words and tables into the card; what was opened, or has the focus, stays as it is. */
function replace(part, fresh) {
  const same = PIECES.every((piece) => !part.querySelector(piece) === !fresh.querySelector(piece)) && part.querySelector(PIECES[0]);
  if (!same) return part.replaceChildren(fresh);
  for (const piece of PIECES) part.querySelector(piece)?.replaceWith(fresh.querySelector(piece));
}

/** Whether somebody marks text in it, to copy it. */
function isMarked(part) {
  const selection = getSelection();
  return !selection.isCollapsed && part.contains(selection.anchorNode);
}
