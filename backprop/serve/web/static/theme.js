// Runs before the first paint, so that the page never flashes in the other colours.
{
  const root = document.documentElement;
  root.classList.add("scripted");
  let kept = null;
  try {
    kept = localStorage.getItem("backprop-theme");
  } catch {
    // A browser that keeps nothing follows the system.
  }
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
}
