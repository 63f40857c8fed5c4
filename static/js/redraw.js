/** When charts are drawn: at most four times a second each, only visible ones, one per animation frame. */

const EVERY = 250;

/** A scheduler over `charts`, each { element }; `draw(chart)` does the work; `appeared(chart)` says when one scrolls in. */
export function scheduler(draw, appeared) {
  const drawnAt = new Map();
  const visible = new Set();
  const dirty = new Set();
  let running = false;

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const chart = [...drawnAt.keys()].find(({ element }) => element === target);
      if (!chart) continue;
      if (!isIntersecting) visible.delete(chart);
      else if (!visible.has(chart)) {
        visible.add(chart);
        appeared(chart);
      }
    }
    run();
  }, { rootMargin: "120px" });

  function run() {
    if (running || document.hidden) return;
    running = true;
    requestAnimationFrame(turn);
  }

  function turn() {
    running = false;
    const ready = [...dirty].filter((chart) => visible.has(chart));
    if (!ready.length) return;
    const now = performance.now();
    const due = ready.filter((chart) => now - drawnAt.get(chart) >= EVERY);
    if (due.length) {
      due.sort((one, other) => drawnAt.get(one) - drawnAt.get(other));
      dirty.delete(due[0]);
      drawnAt.set(due[0], now);
      draw(due[0]);
    }
    if (due.length > 1) return run();
    const soonest = Math.min(...ready.map((chart) => drawnAt.get(chart))) + EVERY - now;
    if (ready.length > due.length) setTimeout(run, Math.max(4, soonest));
  }

  document.addEventListener("visibilitychange", run);
  return {
    add(chart) {
      drawnAt.set(chart, -Infinity);
      watcher.observe(chart.element);
    },
    mark(charts) {
      for (const chart of charts) dirty.add(chart);
      run();
    },
  };
}
