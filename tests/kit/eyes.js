// What a person would stumble over on a page, as a list of sentences; evaluated in the page by tests/e2e.
(() => {
  const found = [];
  const root = document.documentElement;
  if (!root.lang) found.push("no language");
  if (!document.title.trim()) found.push("no title");
  if (document.querySelectorAll("h1").length !== 1) found.push("not exactly one h1");
  if (document.querySelectorAll("main").length !== 1) found.push("not exactly one main");
  if (document.querySelector("script")) found.push("a script");
  if (root.scrollWidth > innerWidth) found.push(`wider than the window: ${root.scrollWidth}`);
  for (const each of document.querySelectorAll("input:not([type=hidden]), iframe"))
    if (!each.labels?.length && !each.title) found.push(`without a name: ${each.outerHTML}`);

  const seen = (each) => each.checkVisibility({ visibilityProperty: true }) && each.getClientRects().length > 0 &&
    !each.closest(".hidden, thead");
  for (const each of document.querySelectorAll("a, button, input:not([type=hidden]), summary")) {
    if (!seen(each)) continue;
    const box = each.getBoundingClientRect();
    if (box.height < 24 || box.width < 24) found.push(`too small to hit: ${each.outerHTML} ${box.height}`);
  }

  const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [0.2126 * r, 0.7152 * g, 0.0722 * b].reduce((sum, part, i) => {
    const s = [r, g, b][i] / 255;
    return sum + (part / ([r, g, b][i] || 1)) * (s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4);
  }, 0);
  const ground = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba("Canvas");
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const each = node.parentElement;
    if (!node.data.trim() || !seen(each)) continue;
    const style = getComputedStyle(each);
    const [a, b] = [light(rgba(style.color)), light(ground(each))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`hard to read (${ratio.toFixed(1)}): ${node.data.trim().slice(0, 40)}`);
    if (parseFloat(style.fontSize) < 13) found.push(`small print (${style.fontSize}): ${node.data.trim().slice(0, 40)}`);
  }
  return found;
})()
