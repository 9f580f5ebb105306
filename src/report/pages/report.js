// Adds to a page that is complete without it: values under the pointer, series that can be hidden, a linear scale.
(() => {
  "use strict";
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const values = new WeakMap();
  for (const title of document.querySelectorAll("figure .m > title")) {
    values.set(title.parentNode, title.textContent);
    title.remove(); // or the browser would show it a second time
  }
  const place = (e) => {
    const mark = e.target.closest && e.target.closest(".m");
    const text = mark && values.get(mark);
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const left = Math.min(e.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 6);
    tip.style.left = Math.max(6, left) + "px";
    tip.style.top = Math.max(6, e.clientY - tip.offsetHeight - 12) + "px";
  };
  const button = (text, pressed, act) => {
    const b = document.createElement("button");
    b.type = "button";
    b.setAttribute("aria-pressed", pressed);
    b.append(...text);
    b.addEventListener("click", () => {
      const on = b.getAttribute("aria-pressed") !== "true";
      b.setAttribute("aria-pressed", on);
      act(on);
    });
    return b;
  };
  for (const figure of document.querySelectorAll("figure")) {
    figure.addEventListener("pointermove", place);
    figure.addEventListener("pointerleave", () => { tip.hidden = true; });
    const entries = figure.querySelectorAll(".legend li");
    if (entries.length > 1) {
      for (const entry of entries) {
        const series = entry.dataset.series;
        const b = button([...entry.childNodes], true, (on) => {
          for (const g of figure.querySelectorAll(`g[data-series="${series}"]`)) g.style.display = on ? "" : "none";
        });
        b.title = "show or hide";
        entry.append(b);
      }
    }
    const linear = figure.querySelector("[data-scale=linear]");
    const shown = figure.querySelector("[data-scale=shown]");
    if (linear && shown) {
      const b = button(["linear scale"], false, (on) => {
        linear.hidden = !on;
        shown.hidden = on;
      });
      b.className = "scale";
      shown.before(b);
    }
  }
})();
