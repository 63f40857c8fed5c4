/** The page of a run: one socket feeds the header, the charts, the newest answers and the log. */
import { chartsView } from "./charts_view.js";
import { confirmForms } from "./confirm.js";
import { showConnection } from "./connection.js";
import { foldLong } from "./fold.js";
import { logView } from "./log_view.js";
import { metricFilter } from "./metric_filter.js";
import { copyButtons } from "./copy.js";
import { partView } from "./part_view.js";
import { planView } from "./plan_view.js";
import { postMortemView } from "./post_mortem_view.js";
import { showRun, showWidths } from "./run_fields.js";
import { connect } from "./socket.js";
import { showTiles } from "./tiles.js";
import { truthView } from "./truth_view.js";

/** States that the page says more of than its fields do. */
const RETOLD = ["stopped", "finished", "failed", "lost"];
const root = document.querySelector("[data-run-page]");
const run = root.dataset.run;
let socket = null;

const charts = chartsView(root, (frame) => socket?.send(frame));
const log = logView(root.querySelector("[data-log]"));
const newest = partView(root.querySelector("[data-newest]"), foldLong);
truthView(root.querySelector("[data-truth]"));
const mortem = postMortemView(root.querySelector("[data-post-mortem]"));
const plan = planView(root.querySelector("[data-plan]"));
const events = partView(root.querySelector("[data-events]"));
const stall = partView(root.querySelector("[data-stall]"));
let state = root.dataset.runState;
let told = root.dataset.told;
let stalled = root.dataset.stalled;

let knobs = JSON.stringify(JSON.parse(root.dataset.knobs));
let reading = null;

/** A live change is drawn as soon as the trainer says from which step on it counts. */
function seamsSoon(tries = 20) {
  if (!charts || reading) return;
  reading = setTimeout(async () => {
    reading = null;
    const answer = await fetch(root.dataset.seamsUrl, { headers: { Accept: "application/json" } });
    const found = answer.ok ? await answer.json() : [];
    if (found.length > charts.seams()) {
      charts.reseam(found);
      events.refresh();
    } else if (tries > 1) seamsSoon(tries - 1);
  }, 1000);
}

const hear = {
  points: (message) => {
    charts?.feed.heard(message);
    plan.refresh();
    mortem.refresh();
  },
  gap: () => {
    charts?.feed.load();
    plan.refresh();
  },
  samples: () => newest.refresh(),
  log: (message) => {
    log?.append(message.lines);
    mortem.refresh();
  },
  run: ({ run: shape }) => {
    showRun(root, shape);
    showTiles(root, shape.latest ?? {});
    mortem.refresh();
    const now = `${shape.state} ${shape.phase} ${shape.attempt}`;
    if (now !== told) events.refresh();
    const stands = `${shape.stall?.event ?? ""} ${shape.policy?.on_stall ?? ""}`;
    if (stands !== stalled) {
      stall.refresh();
      events.refresh();
    }
    stalled = stands;
    told = now;
    if (JSON.stringify(shape.knobs) !== knobs) seamsSoon();
    knobs = JSON.stringify(shape.knobs);
    if (shape.state === state) return;
    // What the page says beside the fields (why it waits, what failed) is written by the server.
    if ([shape.state, state].some((one) => RETOLD.includes(one)) || "waiting" in root.dataset) return reloadSoon();
    state = shape.state;
  },
};

let reloading = null;
/** Not under the hands of somebody who is writing, answers a dialog, or is on the way to another page. */
function reloadSoon(wait = 600) {
  reloading ??= setTimeout(() => {
    reloading = null;
    if (document.querySelector("dialog[open], textarea:focus, input:focus, select:focus")) reloadSoon();
    else location.reload();
  }, wait);
}
addEventListener("beforeunload", () => {
  if (!reloading) return;
  clearTimeout(reloading);
  reloading = null;
  // Still here by then: it was a download.
  reloadSoon(10_000);
});

showWidths(root);
root.querySelector(".tabs [aria-current]").scrollIntoView({ inline: "center", block: "nearest" });
for (const text of root.querySelectorAll("[data-end]")) text.scrollTop = text.scrollHeight;
foldLong(root);
copyButtons(root);
showTiles(root, JSON.parse(document.getElementById("latest")?.textContent ?? "{}"));
metricFilter(root);
confirmForms(document);
const watched = () => (charts ? charts.feed.watch() : { op: "watch", topic: "run", run, keys: [] });
let connected = false;
socket = connect(document.body.dataset.socket, {
  watches: () => {
    // What was said or hinted at while no socket was open is asked for again.
    log?.catchUp();
    if (connected) newest.refresh();
    if (connected) plan.refresh();
    mortem.refresh();
    connected = true;
    return [watched()];
  },
  heard: (message) => (message.run === run || message.run?.id === run) && hear[message.op]?.(message),
  told: showConnection,
});
