/** The search box: arrows walk the list, Enter opens, Escape leaves. */
export function searchBox(input) {
  if (!input) return;
  const list = document.getElementById("found");
  const links = () => [...list.querySelectorAll("a")];
  const walk = (by) => {
    const all = links();
    if (!all.length) return;
    const at = all.findIndex((link) => link.classList.contains("cursor"));
    all[at]?.classList.remove("cursor");
    const next = all[(at + by + all.length) % all.length];
    next.classList.add("cursor");
    next.scrollIntoView({ block: "nearest" });
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); walk(1); }
    if (event.key === "ArrowUp") { event.preventDefault(); walk(-1); }
    if (event.key === "Escape") { list.replaceChildren(); input.value = ""; input.blur(); }
    const chosen = list.querySelector("a.cursor") ?? (links().length === 1 ? links()[0] : null);
    if (event.key === "Enter" && chosen) { event.preventDefault(); chosen.click(); }
  });
  input.addEventListener("input", () => { if (!input.value) list.replaceChildren(); });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".search")) list.replaceChildren();
  });
}
