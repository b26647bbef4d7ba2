// The fields of a pair and their values as JSON: `read` and `write` are each other's inverse.
import { find } from "/static/common.js";

const PREFIXES = ["", "second_"];
const patterns = [...document.querySelectorAll("#patterns button")];
let others = [];  // patterns of the pair that are not in the list: they are kept

const radios = (prefix, side) => [...document.querySelectorAll(`input[name="${prefix}answer_${side}"]`)];

function readAsked(prefix) {
  const answer = side => {
    const chosen = radios(prefix, side).find(one => one.checked);
    return chosen ? Number(chosen.value) : null;
  };
  return {
    text: find(`${prefix}question`).value,
    options: [find(`${prefix}option_0`).value, find(`${prefix}option_1`).value],
    answers: [answer("A"), answer("B")],
  };
}

function writeAsked(prefix, asked) {
  find(`${prefix}question`).value = asked?.text ?? "";
  [0, 1].forEach(number => { find(`${prefix}option_${number}`).value = asked?.options[number] ?? ""; });
  ["A", "B"].forEach((side, place) => {
    for (const one of radios(prefix, side)) one.checked = asked?.answers[place] === Number(one.value);
  });
}

const blank = asked => !asked.text && !asked.options.some(Boolean) && asked.answers.every(answer => answer === null);

export function read() {
  const [question, second] = PREFIXES.map(readAsked);
  const chosen = patterns.filter(one => one.getAttribute("aria-pressed") === "true").map(one => one.dataset.pattern);
  return {
    question: blank(question) ? null : question,
    second: blank(second) ? null : second,
    patterns: [...chosen, ...others],
    statement_a: find("statement_a").value,
    statement_b: find("statement_b").value,
  };
}

export function write(form) {
  writeAsked("", form.question);
  writeAsked("second_", form.second);
  const known = patterns.map(one => one.dataset.pattern);
  for (const one of patterns) one.setAttribute("aria-pressed", form.patterns.includes(one.dataset.pattern));
  others = form.patterns.filter(name => !known.includes(name));
  find("statement_a").value = form.statement_a;
  find("statement_b").value = form.statement_b;
  find("more").open = Boolean(form.second);
}

export function togglePattern(place) {
  const button = patterns[place];
  if (button) button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  return Boolean(button);
}

// The key of an image takes the other option; where the other image then has the same answer, it takes its option too.
export function turnAnswer(side, prefix = "") {
  const own = radios(prefix, side), checked = own.findIndex(one => one.checked);
  choose(side, checked === 0 ? 1 : 0, prefix);
}

export function choose(side, number, prefix = "") {
  radios(prefix, side)[number].checked = true;
  const other = radios(prefix, side === "A" ? "B" : "A");
  if (!other.some(one => one.checked)) other[1 - number].checked = true;  // the answers of a pair differ
}

export function showCounts(counts, target) {
  for (const one of patterns) {
    const count = counts[one.dataset.pattern] ?? 0;
    one.querySelector(".count").textContent = `${count}/${target}`;
    one.classList.toggle("full", count >= target);
  }
}

// What a model proposes as the pattern: marked, and chosen by its own key like any other.
export function showProposal(name) {
  for (const one of patterns) {
    const proposed = one.dataset.pattern === name, mark = one.querySelector(".proposed");
    one.classList.toggle("is-proposed", proposed);
    mark.textContent = proposed ? "a model proposes it" : "";
  }
}

export const empty = () => ({ question: null, second: null, patterns: [], statement_a: "", statement_b: "" });
