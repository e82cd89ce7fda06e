"use strict";
// The heat map of a large confusion matrix: names under the pointer, and a class picked to see its confusions.
for (const data of document.querySelectorAll("script.pairs")) {
  const { names, pairs } = JSON.parse(data.textContent);
  const section = data.closest("section");
  const map = section.querySelector(".map"), image = map.querySelector("img"), caption = map.querySelector("figcaption");
  const cursor = map.querySelector(".cursor"), pick = section.querySelector(".pick"), out = section.querySelector(".out");
  const counts = new Map(pairs.map(([row, column, count]) => [row * names.length + column, count]));
  const totals = new Array(names.length).fill(0);
  for (const [row, , count] of pairs) totals[row] += count;
  const percent = (count, row) => (100 * count / totals[row]).toFixed(1) + " %";
  let row = 0, column = 0;

  const say = () => {
    const count = counts.get(row * names.length + column) || 0;
    const share = count ? ` of ${totals[row]} (${percent(count, row)})` : "";
    caption.textContent = `${names[row]}, predicted as ${names[column]}: ${count}${share}`;
    const cell = image.clientWidth / names.length;
    cursor.hidden = false;
    cursor.style.width = cursor.style.height = `${cell}px`;
    cursor.style.left = `${image.offsetLeft + (column + 0.5) * cell}px`;
    cursor.style.top = `${image.offsetTop + (row + 0.5) * cell}px`;
  };
  const table = (title, rows) => {
    const heading = document.createElement("h3"), body = document.createElement("table");
    heading.textContent = title;
    for (const words of rows) {
      const line = body.insertRow();
      for (const [place, word] of words.entries()) {
        const cell = line.insertCell();
        cell.textContent = word;
        if (place) cell.className = "num";
      }
    }
    return [heading, body];
  };
  const show = (label) => {
    pick.value = label;
    const largest = (list) => list.sort((a, b) => b[2] - a[2]).slice(0, 8);
    const guesses = largest(pairs.filter((pair) => pair[0] === label)).map((p) => [names[p[1]], p[2], percent(p[2], label)]);
    const sources = largest(pairs.filter((pair) => pair[1] === label && pair[0] !== label)).map((p) => [names[p[0]], p[2], percent(p[2], p[0])]);
    const none = [["none", "", ""]];
    out.replaceChildren(...table("predicted as", guesses.length ? guesses : none), ...table("taken for it", sources.length ? sources : none));
  };
  const point = (event) => {
    const box = image.getBoundingClientRect();
    const place = (at, start, length) => Math.min(names.length - 1, Math.max(0, Math.floor((at - start) / length * names.length)));
    column = place(event.clientX, box.left, box.width);
    row = place(event.clientY, box.top, box.height);
    say();
  };
  image.addEventListener("pointermove", point);
  image.addEventListener("click", (event) => { point(event); show(row); });
  map.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Enter") show(row);
    if (!step) return;
    event.preventDefault();
    row = Math.min(names.length - 1, Math.max(0, row + step[0]));
    column = Math.min(names.length - 1, Math.max(0, column + step[1]));
    say();
  });
  pick.addEventListener("change", () => show(Number(pick.value)));
  const worst = pairs.filter((p) => p[0] !== p[1]).sort((a, b) => b[2] - a[2])[0];
  show(worst ? worst[0] : 0);
}
// One switch pauses all videos.
for (const box of document.querySelectorAll(".pause"))
  box.addEventListener("change", () => document.querySelectorAll(".pause").forEach((other) => { other.checked = box.checked; }));
