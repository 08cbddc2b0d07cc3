"use strict";
const told = document.getElementById("told");
const hint = told.textContent;
const points = document.querySelectorAll("circle");
for (const point of points) {
  const say = () => { told.textContent = point.getAttribute("aria-label"); };
  const hush = () => {
    const kept = [...points].find((other) => other === document.activeElement);
    told.textContent = kept ? kept.getAttribute("aria-label") : hint;
  };
  point.addEventListener("mouseenter", say);
  point.addEventListener("focus", say);
  point.addEventListener("mouseleave", hush);
  point.addEventListener("blur", hush);
}
