/** The search of the Metrics tab: hides charts and empty groups, and keeps itself in the URL. */
export function metricFilter(root) {
  const input = root.querySelector("[data-metric-filter]");
  if (!input) return;
  const apply = () => {
    const wanted = input.value.trim().toLowerCase();
    for (const group of root.querySelectorAll("[data-group]")) {
      for (const figure of group.querySelectorAll("[data-chart]")) {
        figure.hidden = wanted !== "" && !figure.dataset.words.toLowerCase().includes(wanted);
      }
      group.hidden = !group.querySelector("[data-chart]:not([hidden])");
    }
    const query = new URLSearchParams(location.search);
    if (wanted) query.set("q", input.value.trim());
    else query.delete("q");
    history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  };
  input.value = new URLSearchParams(location.search).get("q") ?? "";
  input.addEventListener("input", apply);
  if (input.value) apply();
}
