// What the charts share: round ticks, the layer under the pointer, the mark of the selected one.

function ticks(low, high, most) {
  if (!(high > low)) return [low];
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const by = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((width) => width >= rough);
  const found = [];
  for (let k = Math.ceil(low / by - 1e-9); k * by <= high + by * 1e-9; k += 1)
    found.push(Number((k * by).toPrecision(12)));
  return found;
}

// Bytes want binary steps.
function byteTicks(high, most) {
  let by = 1;
  while (high / by > most) by *= 2;
  return Array.from({ length: Math.floor(high / by) + 1 }, (_, k) => k * by);
}

// Makes a chart over the layers answer to pointer and arrow keys. at: pixel -> the layer there, or undefined.
function overLayers(box, at, lines) {
  box.tabIndex = 0;
  box.addEventListener("pointermove", (event) => {
    const found = at(event.clientX - box.getBoundingClientRect().left, event.clientY - box.getBoundingClientRect().top);
    if (!found) return hideTip();
    box.dispatchEvent(new CustomEvent("over", { detail: found }));
    return showTip(event, lines(found));
  });
  box.addEventListener("pointerleave", () => {
    hideTip();
    box.dispatchEvent(new CustomEvent("over", { detail: null }));
  });
  box.addEventListener("click", (event) => {
    const found = at(event.clientX - box.getBoundingClientRect().left, event.clientY - box.getBoundingClientRect().top);
    if (found) select(found.name, "chart");
  });
  box.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by, "chart");
  });
}

const LEFT = 58,
  RIGHT = 10;
