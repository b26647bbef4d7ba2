// The desk: one pair, the question about it, and the keys. A pair is left only when the server has saved what was decided.
import { ask, element, find, showBanner, showSaved } from "/static/common.js";
import * as form from "/static/form.js";
import { Saving, sendLeftovers } from "/static/saving.js";
import * as viewer from "/static/viewer.js";

const main = find("main"), target = Number(main.dataset.target);
const ACTIONS = ["accept", "reject", "skip", "undo"];  // ids of the buttons that leave a pair
const IDLE = 60_000;  // ms without a key or a movement, after which nobody is taken to be looking
let current = null;  // the pair that is shown, with its pictures decoded
let next = null;  // a promise of the one after it
let trail = [];  // ids of the pairs shown before
let busy = false, looked = 0, lastSeen = 0;

const saving = new Saving((state, findings) => {
  showSaved(state);
  if (findings) showFindings(findings);
}, error => askWhichCounts(error.message, () => { saving.pair.seen = error.body.edit; saving.resume(); }));

// ---- showing a pair ----

function wantedQuery(besides) {
  const [, kind, value] = find("wanted").value.match(/^([^:]*):(.*)$/s) ?? [];
  const query = new URLSearchParams(besides.map(id => ["besides", id]));
  if (kind) query.set(kind, value);
  return `/api/next?${query}`;
}

async function fetchNext(besides) {
  const { pair } = await ask("GET", wantedQuery(besides));
  return pair && viewer.preload(pair);
}

const fetchPair = async id => viewer.preload(await ask("GET", `/api/pair/${encodeURIComponent(id)}`));

function prepareNext(coming = fetchNext(current ? [current.pair.pair_id] : [])) {
  next = coming;
  delete main.dataset.next;
  coming.then(ready => { if (next === coming) main.dataset.next = ready?.pair.pair_id ?? ""; }, () => {});  // whoever waits for it sees the error
}

function show(ready) {
  current = ready;
  const { pair } = ready;
  looked = 0; lastSeen = performance.now();
  find("look").hidden = find("form").hidden = false;
  find("done").hidden = true;
  viewer.show(ready);
  const based_on = pair.shown?.revision ?? null;
  const unsent = saving.open({ pair_id: pair.pair_id, based_on, seen: pair.edit?.id ?? null });
  form.write(unsent ?? pair.edit?.form ?? pair.shown?.form ?? form.empty());
  showFacts(pair);
  showSource(pair, Boolean(unsent ?? pair.edit));
  showFindings(pair.findings);
  find("announced").textContent = `Pair ${pair.pair_id}. ${pair.shown?.form.question?.text ?? "No question yet."}`;
  document.activeElement?.blur();
  scrollTo(0, 0);
  main.dataset.shown = pair.pair_id;
  if (unsent) { note("Text that had not reached the server was found in this browser."); saving.changed(form.read()); }
  else note("");
  if (location.pathname !== "/") history.replaceState(null, "", `/pair/${encodeURIComponent(pair.pair_id)}`);
}

function showFacts(pair) {
  const fact = (name, value, kind = "") => element("div", {}, element("dt", {}, name), element("dd", { class: kind }, value));
  const cosine = value => value === null ? "unknown" : value.toFixed(3);
  find("facts").replaceChildren(
    fact("CLIP", cosine(pair.clip_sim), "clip big"), fact("DINO", cosine(pair.dino_sim), "dino big"),
    ...(pair.cluster === null ? [] : [fact("Cluster", pair.cluster_name || String(pair.cluster))]),
    ...(pair.control_of ? [fact("Control", "CLIP tells these apart")] : []),
    fact("Pair", element("code", {}, pair.pair_id)));
  [...find("names").children].forEach((label, place) => {
    const { name, path } = place ? pair.b : pair.a;
    label.textContent = name;
    label.title = path;
  });
}

function showSource(pair, edited) {
  const state = find("state"), kind = pair.own?.kind ?? "open";
  state.className = `badge ${kind}`;
  state.textContent = { accepted: "you accepted it", rejected: "you rejected it", withdrawn: "taken back" }[kind] ?? "not decided";
  const { shown } = pair;
  find("source").textContent = !shown ? "no draft: write the question yourself"
    : shown.kind === "draft" ? `draft by ${shown.author}` : pair.own?.reason ? `because: ${pair.own.reason}` : `text by ${shown.source.replace(/^person:/, "")}`;
  if (edited) find("source").append(", changed by you");
  find("revert").hidden = !shown || !edited;
  form.showProposal(pair.proposal);
  const drafts = find("drafts");
  drafts.hidden = pair.drafts.length < 2;
  drafts.replaceChildren(element("option", { value: "" }, "another draft …"),
    ...pair.drafts.map((draft, place) => element("option", { value: String(place) }, `${draft.author}: ${draft.form.question?.text ?? "statements"}`)));
}

// The fields that a finding is about, by the name that the checks have for it.
const PLACES = {
  "question.text": ["question"], "question.options": ["option_0", "option_1"], "second.text": ["second_question"],
  "second.options": ["second_option_0", "second_option_1"], statements: ["statement_a", "statement_b"],
};

function showFindings(findings) {
  const lines = findings.map(one => element("li", { class: one.check === "unfinished" ? "unfinished" : one.refuses ? "refuses" : "" },
    `${one.field.startsWith("second.") ? "second question: " : ""}${one.message}`));
  const wrong = findings.filter(one => one.refuses && one.check !== "unfinished").flatMap(one => PLACES[one.field] ?? []);
  for (const id of Object.values(PLACES).flat()) find(id).setAttribute("aria-invalid", wrong.includes(id));
  find("checks").replaceChildren(...(lines.length ? lines : [element("li", { class: "fine" }, "every check passes")]));
  find("checks").dataset.count = lines.length;
}

function note(text) {
  find("note").hidden = !text;
  find("note").textContent = text;
}

async function showProgress() {
  try {
    const { decided, pairs, patterns } = await ask("GET", "/api/progress");
    find("progress").textContent = `${decided.toLocaleString("en")} of ${pairs.toLocaleString("en")}`;
    form.showCounts(patterns, target);
  } catch { /* the figures are not the work */ }
}

function showNothingLeft() {
  current = null;
  find("look").hidden = find("form").hidden = true;
  const wanted = find("wanted").value;
  find("done").hidden = false;
  find("done").replaceChildren(
    element("p", {}, wanted ? "No such pair is left for you." : "No pair is left for you: every pair has been decided, or is open in another window."),
    element("p", { class: "row" }, ...(wanted ? [element("button", { type: "button", id: "all-pairs" }, "Go on with all pairs")] : []),
      element("a", { class: "button", href: "/pairs" }, "Look through the pairs"), element("a", { class: "button", href: "/statistics" }, "Statistics")),
    element("p", { class: "quiet small" }, "To write them as a benchmark: blindpairs export"));
  find("all-pairs")?.addEventListener("click", () => { find("wanted").value = ""; alone(advance); });
  delete main.dataset.shown;
}

// ---- moving on ----

// To the next pair: the one that arrived early, else, as after an error, one that is asked for now.
async function advance() {
  const early = next;
  next = null;
  const ready = await (early?.catch(() => fetchNext([])) ?? fetchNext([]));
  if (current) trail.push(current.pair.pair_id);
  if (ready) { show(ready); prepareNext(); } else showNothingLeft();
}

// One action at a time: a double click, or a key held down, does nothing twice.
async function alone(action) {
  if (busy) return;
  busy = true;
  for (const id of ACTIONS) find(id).setAttribute("aria-disabled", "true");
  try { await action(); } catch (error) { explain(error); } finally {
    busy = false;
    for (const id of ACTIONS) find(id).removeAttribute("aria-disabled");
  }
}

function explain(error) {
  if (error.status === undefined) throw error;
  const passing = error.status === 0 || error.status >= 500;  // the same may work later
  const lost = passing && (error.undecided || saving.unsaved);
  const again = lost ? ". Your text is kept in this browser: press the same key or button again." : passing ? ". Press the same key or button again." : "";
  if (lost) showSaved("failed");
  showBanner(`${lost ? "NOT SAVED: " : ""}${error.message}${again}`);
}

function decide(accepted, reason = "") {
  return alone(async () => {
    if (!current) return;
    watch();
    await saving.pause();
    const seconds = Math.round(looked) / 1000;
    try {
      await ask("POST", "/api/decide", { ...saving.pair, accepted, reason, form: form.read(), seconds });
    } catch (error) {
      saving.resume();
      if (error.status === 409) {
        askWhichCounts(error.message, () => { saving.pair.based_on = error.body.later.revision; decide(accepted, reason); });
        return;
      }
      error.undecided = true;
      throw error;
    }
    saving.drop();
    try { await advance(); } catch (error) {
      if (error.status === undefined) throw error;
      showBanner(`Your decision is saved, but the next pair did not come: ${error.message}. The same key asks for it again.`);
    }
    showProgress();
  });
}

// Somebody, or another window, saved something newer: nothing is overwritten that was not seen.
function askWhichCounts(text, keep) {
  find("conflict-text").textContent = `${text}.`;
  find("conflict-keep").onclick = () => { find("conflict").close(); keep(); };
  find("conflict-take").onclick = () => {
    find("conflict").close();
    saving.drop();
    alone(async () => show(await fetchPair(current.pair.pair_id)));
  };
  find("conflict").showModal();
}

const later = () => alone(async () => {
  if (!current) return;
  if (!await saving.settled()) return;  // the banner says that it is not saved
  await ask("POST", "/api/skip", { pair_id: current.pair.pair_id });
  await advance();
});

const back = () => alone(async () => {
  const id = trail.at(-1);
  if (!id || !await saving.settled()) return;
  const left = current;
  const ready = await fetchPair(id);
  trail.pop();
  show(ready);
  if (left) prepareNext(fetchPair(left.pair.pair_id));  // fetched again: it may have been edited since it was shown
});

const undo = () => alone(async () => {
  if (current && !await saving.settled()) return;
  const { pair } = await ask("POST", "/api/undo", { client: saving.client });
  if (!pair) { note("There is nothing to undo."); return; }
  const left = current;
  show(await viewer.preload(pair));
  if (left && left.pair.pair_id !== pair.pair_id) prepareNext(fetchPair(left.pair.pair_id));
  trail = trail.filter(id => id !== pair.pair_id);
  note("Your last decision was taken back: this pair is open again.");
  showProgress();
});

function openReject() {
  if (!current) return;
  find("reason").value = "";
  find("rejecting").showModal();
  find("reason").blur();
}

function rejectWith(reason) {
  find("rejecting").close();
  decide(false, reason);
}

// ---- what is written ----

function changed() {
  if (!current) return;
  find("revert").hidden = !current.pair.shown;
  saving.changed(form.read());
}

function pickText(text) {
  form.write(text);
  changed();
}

function watch() {
  const now = performance.now();
  looked += Math.min(now - lastSeen, IDLE);
  lastSeen = now;
}
for (const seen of ["keydown", "pointermove", "pointerdown", "wheel"]) addEventListener(seen, watch, { passive: true });

find("form").addEventListener("input", event => {
  const [, prefix, side] = event.target.name?.match(/^(second_)?answer_(A|B)$/) ?? [];
  if (side) form.choose(side, Number(event.target.value), prefix ?? "");
  if (!["wanted", "drafts"].includes(event.target.id)) changed();
});
find("form").addEventListener("submit", event => { event.preventDefault(); decide(true); });
find("patterns").addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  form.togglePattern([...find("patterns").children].indexOf(button));
  changed();
});
find("revert").addEventListener("click", () => { if (current.pair.shown) pickText(current.pair.shown.form); });
find("drafts").addEventListener("change", event => {
  const draft = current.pair.drafts[event.target.value];
  event.target.value = "";
  if (draft) pickText(draft.form);
});
find("wanted").addEventListener("change", () => alone(async () => {
  next = null;
  if (!await saving.settled()) return;
  await advance();
}));
find("reject").addEventListener("click", openReject);
find("reject-with").addEventListener("click", () => rejectWith(find("reason").value.trim()));
find("rejecting").addEventListener("click", event => {
  const button = event.target.closest("button[data-reason]");
  if (button) rejectWith(button.dataset.reason);
});
find("rejecting").addEventListener("keydown", event => {
  const typing = event.target === find("reason");
  const button = typing ? null : find("rejecting").querySelectorAll("button[data-reason]")[Number(event.key) - 1];
  if (button) { event.preventDefault(); rejectWith(button.dataset.reason); }
  if (event.key === "Enter" && (typing || event.target === find("rejecting"))) { event.preventDefault(); rejectWith(find("reason").value.trim()); }
});
find("skip").addEventListener("click", later);
find("undo").addEventListener("click", undo);
for (const mode of ["sides", "flicker", "minus"]) find(`view-${mode}`).addEventListener("click", () => viewer.setMode(mode));
find("view-map").addEventListener("click", viewer.toggleMap);
find("view-zoom").addEventListener("click", viewer.toggleZoom);
find("keys").addEventListener("click", () => find("help").showModal());

// ---- keys: what each does, and the sheet that says so ----

const turn = side => () => { form.turnAnswer(side); changed(); };
const KEYS = [
  [["Enter"], "accept, save, next pair (Ctrl+Enter also inside a field)", () => decide(true)],
  [["x"], "reject, then 1 to 9 for the reason", openReject],
  [["u"], "undo your last decision", undo],
  [["]"], "later: the next pair, and this one at the end", later],
  [["["], "back to the pair before", back],
  [["f"], "flicker: B in place of A, and back", () => viewer.setMode("flicker")],
  [["v"], "side by side", () => viewer.setMode("sides")],
  [["d"], "difference of the two images", () => viewer.setMode("minus")],
  [["m"], "map of where DINOv2 sees the difference", viewer.toggleMap],
  [["z"], "1:1, and back", viewer.toggleZoom],
  [["+", "="], "zoom in on both images (also the wheel)", () => viewer.zoomBy(1.5)],
  [["-"], "zoom out", () => viewer.zoomBy(1 / 1.5)],
  [["a"], "the answer of image A: the other option", turn("A")],
  [["s"], "the answer of image B: the other option", turn("B")],
  [["q"], "write the question", () => find("question").focus()],
  [["o"], "write the options", () => find("option_0").focus()],
  [["t"], "write the statements", () => find("statement_a").focus()],
  [["n"], "write the second question", () => { find("more").open = true; find("second_question").focus(); }],
  [["r"], "the text as it was before you changed it", () => find("revert").click()],
  [["?"], "this sheet", () => find("help").showModal()],
];
const actions = new Map(KEYS.flatMap(([keys, , action]) => keys.map(key => [key, action])));
const ARROWS = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
find("help").querySelector("dl").append(...[...KEYS, [["1", "9"], "a visual pattern, on and off"], [["Esc"], "leave a field"]]
  .flatMap(([keys, meaning]) => [element("dt", {}, ...keys.flatMap(key => [element("kbd", {}, key), " "])), element("dd", {}, meaning)]));

const FIELDS = [...document.querySelectorAll("#form textarea, #form input:not([type=radio])")];

addEventListener("keydown", event => {
  if (document.querySelector("dialog[open]")) return;
  const { target: at, key } = event;
  const typing = at.matches("textarea, select, input:not([type=radio])");
  if (key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); decide(true); return; }
  if (typing) {
    if (key === "Escape") { at.blur(); event.preventDefault(); }
    if (key === "Enter" && !event.shiftKey && FIELDS.includes(at)) {  // a question is one line: Enter goes on
      event.preventDefault();
      const shown = FIELDS.filter(one => one.checkVisibility());
      (shown[shown.indexOf(at) + 1] ?? find("accept")).focus();
    }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (key === "Enter" && at.matches("button, a, summary")) return;  // the element's own action
  if (ARROWS[key] && !at.matches("input") && viewer.pan(...ARROWS[key])) { event.preventDefault(); return; }
  if (/^[1-9]$/.test(key)) {
    if (current && form.togglePattern(Number(key) - 1)) { event.preventDefault(); changed(); }
    return;
  }
  const action = actions.get(key);
  if (!action || (!current && !"u?".includes(key))) return;
  event.preventDefault();
  action();
});

// ---- start ----

async function start() {
  const asked = new URLSearchParams(location.search);
  for (const kind of ["pattern", "cluster"]) if (asked.has(kind)) find("wanted").value = `${kind}:${asked.get(kind)}`;
  if (find("wanted").selectedIndex < 0) find("wanted").value = "";
  try {
    const ready = main.dataset.pair ? await fetchPair(main.dataset.pair) : await fetchNext([]);
    if (ready) { show(ready); prepareNext(); } else showNothingLeft();
    const sent = await sendLeftovers(main.dataset.shown);
    if (sent) note(`Text of ${sent} more pair${sent > 1 ? "s" : ""} that had not reached the server was saved now.`);
  } catch (error) {
    if (error.status === undefined) throw error;
    showBanner(`${error.message}. Reload the page.`);
  }
  showProgress();
}
start();
