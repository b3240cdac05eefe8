"use strict";
const packet = JSON.parse(document.getElementById("packet").textContent);
const slot = `medsynth-readers-${packet.id}`;
const form = document.getElementById("form");
const fields = [...form.querySelectorAll("fieldset")];
const answers = {};
let place = 0;

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(slot) || "{}");
    for (const item of packet.items) if (kept.answers && kept.answers[item.id]) answers[item.id] = kept.answers[item.id];
    place = Math.min(Math.max(kept.place | 0, 0), packet.items.length - 1);
  } catch (error) {
    say(packet.words.not_kept);
  }
}

function keep() {
  try {
    localStorage.setItem(slot, JSON.stringify({ place, answers }));
  } catch (error) {
    say(packet.words.not_kept);
  }
}

function say(text) {
  document.getElementById("status").textContent = text;
}

function radios(field) {
  return [...field.querySelectorAll("input")];
}

function focusOn(field) {
  (radios(field).find((radio) => radio.checked) || radios(field)[0]).focus();
}

function given(item) {
  return answers[item.id] || {};
}

// Own properties only: a question may be named `constructor`.
function answered(item, name) {
  return Object.hasOwn(given(item), name);
}

function complete(item) {
  return fields.every((field) => answered(item, field.dataset.name));
}

function show() {
  const item = packet.items[place];
  const where = `${packet.words.image} ${place + 1} / ${packet.items.length}`;
  const picture = document.getElementById("picture");
  picture.src = item.picture;
  picture.alt = where;
  document.getElementById("place").textContent = where;
  document.getElementById("progress").value = packet.items.filter(complete).length;
  document.getElementById("previous").disabled = place === 0;
  for (const field of fields) {
    const said = answered(item, field.dataset.name) ? given(item)[field.dataset.name] : null;
    for (const radio of radios(field)) radio.checked = said === radio.value;
  }
}

function record(radio) {
  const item = packet.items[place];
  answers[item.id] = { ...given(item), [radio.name]: radio.value };
  document.getElementById("progress").value = packet.items.filter(complete).length;
  say("");
  keep();
}

function go(to) {
  place = to;
  keep();
  say("");
  show();
  focusOn(fields[0]);
  window.scrollTo(0, 0);
}

function forward() {
  const missing = fields.find((field) => !answered(packet.items[place], field.dataset.name));
  if (missing) {
    say(packet.words.missing);
    focusOn(missing);
    return;
  }
  const open = packet.items.findIndex((item) => !complete(item));
  if (place + 1 < packet.items.length) {
    go(place + 1);
  } else if (open >= 0) {
    go(open);
  } else {
    say(packet.words.finished);
    document.getElementById("download").focus();
  }
}

function answersText() {
  const done = packet.items.every(complete);
  const file = { format: "medsynth-readers-answers/1", packet: packet.id, reader: packet.reader, finished: done, answers };
  return JSON.stringify(file, null, 1);
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([answersText()], { type: "application/json" }));
  link.download = `answers-reader-${packet.reader}-${packet.id}.json`;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

form.addEventListener("change", (event) => record(event.target));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  forward();
});
// A digit counts only while a question has the focus, so that it never clashes with keys of a screen reader.
form.addEventListener("keydown", (event) => {
  const field = event.target.closest("fieldset");
  if (!field || event.ctrlKey || event.altKey || event.metaKey || !/^[1-9]$/.test(event.key)) return;
  const radio = radios(field)[Number(event.key) - 1];
  if (!radio) return;
  event.preventDefault();
  radio.checked = true;
  record(radio);
  const after = fields[fields.indexOf(field) + 1];
  if (after) focusOn(after);
  else document.getElementById("next").focus();
});
document.getElementById("previous").addEventListener("click", () => go(Math.max(0, place - 1)));
document.getElementById("download").addEventListener("click", download);
restore();
show();
focusOn(fields[0]);
