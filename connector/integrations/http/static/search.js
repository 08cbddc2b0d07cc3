"use strict";
const HITS = 10, LEVELS = 8, LONG = 900;
const at = (id) => document.getElementById(id);
const [form, box, status, results, keyForm, keyBox] =
  ["search", "q", "status", "results", "key-form", "key"].map(at);
const held = "connector-key", name = document.title;
let latest = 0;

function node(tag, text, style) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (style) made.className = style;
  return made;
}
function say(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}
const ms = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const count = (value) => value.toLocaleString("en");

async function ask(path, body) {
  const headers = {}, key = sessionStorage.getItem(held);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, cache: "no-store",
      body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) {
    const wrong = key ? "That key is wrong. " : "";
    sessionStorage.removeItem(held);
    keyForm.hidden = false;
    keyBox.focus();
    throw new Error(`${wrong}This server asks for an API key.`);
  }
  if (!response.ok) throw new Error(answer.detail || `The server answered ${response.status}.`);
  return answer;
}

// Spans count characters, of which JavaScript takes some for two.
function marked(element, text, matches) {
  const letters = Array.from(text);
  let place = 0;
  for (const { start, end, weight, part } of matches) {
    const level = Math.round(LEVELS * weight);
    if (start < place || level < 1) continue;
    element.append(letters.slice(place, start).join(""));
    const mark = node("mark", letters.slice(start, end).join(""));
    mark.dataset.heat = level;
    mark.title = `adds ${part.toFixed(4)} to the score`;
    element.append(mark);
    place = end;
  }
  element.append(letters.slice(place).join(""));
}

// A button by which the reader says of a hit that the others should be like it, or no more.
function liking(id, like) {
  const pressed = like.includes(id), button = node("button", "More like this", "more");
  button.type = "button";
  button.setAttribute("aria-pressed", pressed);
  if (pressed) button.textContent = "✓ Like this";
  button.addEventListener("click", () =>
    go(asked().query, pressed ? like.filter((it) => it !== id) : [...like, id]));
  return button;
}

function shown(hit, like) {
  const item = node("li"), heading = node("h2"), text = node("p", undefined, "text");
  heading.dir = text.dir = "auto";
  text.lang = "";
  item.append(heading, text);
  if (hit.text.length > LONG) item.append(folding(text));
  const facts = node("p", undefined, "facts faint");
  if (hit.title && hit.title !== hit.id) facts.append(node("bdi", hit.id));
  facts.append(node("span", `score ${hit.score.toFixed(4)}`));
  if (hit.bytes !== null) facts.append(node("span", `${count(hit.bytes)} bytes`));
  if (hit.passage) facts.append(node("span", `passage ${hit.passage}`));
  facts.append(liking(hit.id, like));
  item.append(facts);
  if (Object.keys(hit.metadata).length) item.append(metadata(hit.metadata));
  return { hit, item, heading, text };
}

// The texts of a hit, its words shaded if they are known by now.
function write({ hit, heading, text }, matches) {
  const those = (where) => matches.filter((match) => match.where === where);
  heading.replaceChildren();
  text.replaceChildren();
  if (hit.title) marked(heading, hit.title, those("title"));
  else heading.append(node("bdi", hit.id));
  marked(text, hit.text, those("text"));
}

function folding(text) {
  const button = node("button", "", "more");
  button.type = "button";
  const show = (whole) => {
    text.classList.toggle("whole", whole);
    button.textContent = whole ? "Show less" : "Show all";
    button.setAttribute("aria-expanded", whole);
  };
  text.classList.add("long");
  button.addEventListener("click", () => show(!text.classList.contains("whole")));
  show(false);
  return button;
}

function metadata(values) {
  const details = node("details"), list = node("dl");
  details.append(node("summary", "Metadata"), list);
  for (const [key, value] of Object.entries(values)) {
    list.append(node("dt", key), node("dd", typeof value === "string" ? value : JSON.stringify(value)));
  }
  return details;
}

function told({ hits, ms: spent }) {
  if (!hits.length) return "No hits. The collection is empty, or holds nothing like this.";
  const known = hits.map((hit) => hit.bytes).filter((size) => size !== null);
  const size = known.reduce((sum, it) => sum + it, 0) / (known.length || 1);
  const stages = ["encode", "candidates", "rerank", "feedback"].map((stage) => `${stage} ${ms(spent[stage])}`);
  return `${hits.length} ${hits.length === 1 ? "hit" : "hits"} in ${ms(spent.total)}: ` +
    `${stages.join(", ")}; ${count(Math.round(size))} bytes a passage`;
}

async function search({ query, like }) {
  const turn = ++latest;
  box.value = query;
  document.title = query.trim() ? `${query} – ${name}` : name;
  if (!query.trim()) {
    results.replaceChildren();
    results.setAttribute("aria-busy", "false");
    return say("");
  }
  results.setAttribute("aria-busy", "true");
  say("Searching …");
  try {
    const answer = await ask("search", { query, k: HITS, like });
    if (turn !== latest) return;
    const hits = answer.hits.map((hit) => shown(hit, like));
    for (const hit of hits) write(hit, []);
    results.replaceChildren(...hits.map(({ item }) => item));
    say(told(answer));
    results.setAttribute("aria-busy", "false");
    if (!answer.hits.length) return;
    const explained = await ask("search", { query, k: HITS, like, explain: true });
    if (turn !== latest) return;
    for (const { id, passage, text, matches } of explained.hits) {
      const same = hits.find(({ hit }) => hit.id === id && hit.passage === passage && hit.text === text);
      if (same && matches) write(same, matches);
    }
  } catch (error) {
    if (turn === latest) say(error.message, true);
  } finally {
    if (turn === latest) results.setAttribute("aria-busy", "false");
  }
}

function asked() {
  const given = new URLSearchParams(location.search);
  return { query: given.get("q") || "", like: given.getAll("like") };
}
function go(query, like = []) {
  const given = new URLSearchParams(query.trim() ? [["q", query], ...like.map((id) => ["like", id])] : []);
  const address = given.size ? `?${given}` : location.pathname;
  if (address !== (location.search || location.pathname)) history.pushState(null, "", address);
  search({ query, like });
}
form.addEventListener("submit", (event) => {
  event.preventDefault();
  go(box.value);
});
keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(held, keyBox.value.trim());
  keyBox.value = "";
  keyForm.hidden = true;
  box.focus();
  describe();
  search(asked().query ? asked() : { query: box.value, like: [] });
});
window.addEventListener("popstate", () => search(asked()));

async function describe() {
  try {
    const health = await ask("health");
    if (health.documents !== undefined) {
      at("about").textContent = `${count(health.documents)} documents, recipe ${health.recipe}`;
    }
  } catch (error) {
    say(error.message, true);
  }
}
describe().then(() => { if (asked().query) search(asked()); });
