"use strict";
const told = document.getElementById("told");
const hint = told.textContent;
const words = new Map();
for (const word of document.querySelectorAll("[data-word]")) words.set(word.dataset.word, word);
const buttons = document.querySelectorAll("button");
function show(button) {
  for (const word of words.values()) delete word.dataset.lit;
  document.body.classList.toggle("picked", button !== null);
  told.textContent = button === null ? hint : button.dataset.told;
  if (button === null) return;
  for (const match of button.dataset.matches.split(" ").filter(Boolean)) {
    const [word, level] = match.split(":");
    words.get(word).dataset.lit = level;
  }
}
function focused() {
  return [...buttons].find((button) => button === document.activeElement) || null;
}
for (const button of buttons) {
  button.addEventListener("mouseenter", () => show(button));
  button.addEventListener("mouseleave", () => show(focused()));
  button.addEventListener("focus", () => show(button));
  button.addEventListener("blur", () => show(null));
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && focused() !== null) focused().blur();
});
