// Puts each section that the monitor sends in its place, and says so when the monitor no longer answers.
"use strict";
const events = new EventSource("/events");
let told = 0;

events.addEventListener("sections", (event) => {
  told = Date.now();
  for (const [name, html] of Object.entries(JSON.parse(event.data))) {
    const place = document.getElementById(name);
    const scrolled = [...place.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
    const focused = [...place.querySelectorAll(".scroll")].indexOf(document.activeElement);
    place.innerHTML = html;
    const boxes = place.querySelectorAll(".scroll");
    scrolled.forEach(([left, top], index) => boxes[index]?.scrollTo(left, top));
    boxes[focused]?.focus({ preventScroll: true });
  }
});

setInterval(() => {
  if (told && Date.now() - told > 10000) {
    document.getElementById("status").innerHTML =
      '<p class="verdict bad"><strong>The monitor does not answer</strong></p>';
  }
}, 2000);
