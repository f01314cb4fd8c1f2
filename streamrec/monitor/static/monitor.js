// Puts each section that the monitor sends in its place, and says so when the monitor no longer answers.
"use strict";
const SILENT_MS = 10000;
const events = new EventSource("/events");
const said = document.getElementById("said");
let toldMs = Date.now();

// the verdict is read aloud when it changes, not with each second that it counts
function say(text, classes) {
  if (said.textContent !== text) said.textContent = text;
  said.className = classes;
  document.title = `${text} · streamrec`;
}

events.addEventListener("sections", (event) => {
  toldMs = Date.now();
  for (const [name, html] of Object.entries(JSON.parse(event.data))) {
    const place = document.getElementById(name);
    const scrolled = [...place.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
    const focused = [...place.querySelectorAll(".scroll")].indexOf(document.activeElement);
    place.innerHTML = html;
    const boxes = place.querySelectorAll(".scroll");
    scrolled.forEach(([left, top], index) => boxes[index]?.scrollTo(left, top));
    boxes[focused]?.focus({ preventScroll: true });
  }
  say(document.querySelector("#status .verdict").textContent, "hidden");
});

setInterval(() => {
  if (Date.now() - toldMs > SILENT_MS) say("The monitor does not answer", "verdict bad");
}, 2000);
