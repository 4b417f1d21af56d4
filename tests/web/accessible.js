// What a page does to keep people out: an empty list where it keeps nobody out.
() => {
  const found = [];
  const isShown = (node) => {
    const style = getComputedStyle(node);
    const box = node.getBoundingClientRect();
    return style.visibility !== "hidden" && style.display !== "none" && box.width > 0 && box.height > 0 && node.checkVisibility();
  };
  const shown = (selector) => [...document.querySelectorAll(selector)].filter(isShown);
  const told = (node) => node.outerHTML.slice(0, 120);
  const named = (node) => {
    const by = (node.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "");
    const labels = [...(node.labels ?? [])].map((label) => label.textContent);
    return [node.getAttribute("aria-label"), ...by, ...labels, node.textContent].some((words) => words?.trim());
  };

  if (!document.documentElement.lang) found.push("no language");
  if (!document.title) found.push("no title");
  if (shown("main").length !== 1) found.push("not one main");
  if (shown("h1").length !== 1) found.push("not one h1");
  for (const node of shown("input, select, textarea")) {
    const labels = [...(node.labels ?? [])].map((label) => label.textContent).join("");
    if (!(labels + (node.getAttribute("aria-label") ?? "")).trim()) found.push(`no label: ${told(node)}`);
  }
  for (const node of shown("button, a[href], summary")) if (!named(node)) found.push(`no name: ${told(node)}`);
  for (const node of shown("img")) if (!node.hasAttribute("alt")) found.push(`no alt: ${told(node)}`);
  for (const node of shown("svg, canvas")) {
    const isHidden = node.closest("[aria-hidden=true]");
    if (!isHidden && !node.getAttribute("aria-label")) found.push(`no words for: ${told(node)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of new Set(ids)) if (ids.filter((each) => each === id).length > 1) found.push(`twice: ${id}`);
  for (const node of document.querySelectorAll("[aria-describedby], [aria-labelledby], label[for]")) {
    for (const name of ["aria-describedby", "aria-labelledby", "for"]) {
      for (const id of (node.getAttribute(name) ?? "").split(" ").filter(Boolean)) {
        if (!document.getElementById(id)) found.push(`${name} of nothing: ${id}`);
      }
    }
  }
  let before = 1;
  for (const node of shown("h1, h2, h3, h4, h5, h6")) {
    const level = Number(node.tagName[1]);
    if (level > before + 1) found.push(`heading skips a level: ${told(node)}`);
    before = level;
  }
  for (const node of shown("button, select, input:not([type=checkbox]), nav a, a.button, a.tag")) {
    const box = node.getBoundingClientRect();
    if (node.classList.contains("visually-hidden")) continue;
    if (box.width < 24 || box.height < 24) found.push(`small (${Math.round(box.width)}x${Math.round(box.height)}): ${told(node)}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push(`wider than the window by ${document.documentElement.scrollWidth - innerWidth}`);

  // Contrast of text with what is behind it, WCAG 2.1 AA.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const behind = (node) => {
    const layers = [];
    for (let each = node; each; each = each.parentElement) layers.unshift(rgba(getComputedStyle(each).backgroundColor));
    return layers.reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const light = ([red, green, blue]) => {
    const parts = [red, green, blue].map((value) => value / 255).map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const contrast = (one, two) => {
    const [low, high] = [light(one), light(two)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !isShown(node) || node.closest(".visually-hidden, .skip, script, noscript, option")) continue;
    const style = getComputedStyle(node);
    const under = behind(node);
    const ink = over(rgba(node instanceof SVGElement ? style.fill : style.color), under);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = contrast(ink, under);
    if (ratio < (isLarge ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(2)}: ${told(node)}`);
  }
  for (const node of shown("input:not([type=checkbox]), textarea, select")) {
    if (node.closest(".chips")) continue;
    const edge = contrast(rgba(getComputedStyle(node).borderTopColor), behind(node.parentElement));
    if (edge < 3) found.push(`edge ${edge.toFixed(2)}: ${told(node)}`);
  }
  return found;
}
