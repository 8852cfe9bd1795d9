// Keeps a page up to date in place, from the server's stream. A page is whole without it.
"use strict";

// How long the server may be silent, which sends a sign of life every ten seconds.
const QUIET_MS = 25_000;
// How long a connection may be gone before the banner says so.
const LOST_MS = 2_000;
// Before the next try after the server refused.
const REFUSED_MS = 10_000;
// Between two loads of the parts that the server draws: the sentence, events, curves.
const REDRAW_MS = 2_000;
const CURVES_MS = 15_000;
const REDRAWN = ["summary", "events", "curves"];
// Lines of a log that are kept on a page.
const LINES_MAX = 500;
const TONES = { error: "bad", warn: "warn", info: "plain", debug: "muted", trace: "muted" };
const FIELDS = ["cpu", "mem", "disk"];
// Stands for no device, where there is none.
const NOBODY = "00000000-0000-0000-0000-000000000000";

const table = document.querySelector("table[data-glyphs]");
const rows = new Map([...document.querySelectorAll("tbody tr[id]")].map((row) => [row.id, row]));
const banner = document.getElementById("banner");
const columns = new Map();
const glyphs = new Map();
const slots = new Map();

let source = null;
let heard = Date.now();
let lost = null; // since when there is no connection
let refused = -Infinity;
let counted = null;
let ahead = 0; // of the server's clock, against ours
let redrawn = Date.now();
let redrawing = false;
let waiting = false;
let loaded = Date.now();
let missed = false; // whether the last load came to nothing

if (table) {
  table.querySelectorAll("thead th").forEach((th, at) => columns.set(th.dataset.field, at));
  const words = table.dataset.glyphs.trim().split(" ");
  for (let at = 0; at + 2 < words.length; at += 3) glyphs.set(words[at], words.slice(at + 1, at + 3));
  for (const row of rows.values()) row.dataset.status = cell(row, "status").lastChild.textContent.trim();
}

function cell(row, field) {
  return columns.has(field) ? row.cells[columns.get(field)] : null;
}

function age(at) {
  const secs = Math.max(0, Math.floor((Date.now() + ahead - at) / 1000));
  if (secs < 120) return `${secs}s`;
  if (secs < 7_200) return `${Math.floor(secs / 60)}m`;
  if (secs < 172_800) return `${Math.floor(secs / 3_600)}h`;
  return `${Math.floor(secs / 86_400)}d`;
}

// Spells out what could hide or reorder text.
function plain(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

function mark(word, tone) {
  const i = document.createElement("i");
  i.className = tone;
  i.textContent = word;
  return i;
}

function showPercent(row, field, value) {
  const td = cell(row, field);
  if (!td) return;
  if (value === null) return td.replaceChildren(mark("—", "muted"));
  let meter = td.querySelector("meter");
  if (!meter) {
    meter = Object.assign(document.createElement("meter"), { max: 100, low: 75, high: 90 });
    const title = table.querySelector(`thead th[data-field="${field}"]`).textContent.trim();
    meter.setAttribute("aria-label", `${nameOf(row)} ${title.split(" ")[0]}`);
  }
  meter.value = value;
  td.replaceChildren(meter, `${value}\u202f%`);
}

function nameOf(row) {
  const th = row.querySelector("th");
  return (th || document.querySelector("h1")).firstChild.textContent;
}

function showSeen(row, at) {
  const td = cell(row, "last_seen");
  if (!td || at === null) return;
  const time = document.createElement("time");
  time.dateTime = new Date(at).toISOString();
  time.textContent = age(at);
  td.replaceChildren(time);
}

function showStatus(row, status) {
  row.dataset.status = status;
  const [glyph, tone] = glyphs.get(status) || ["", "plain"];
  const i = mark(glyph, tone);
  i.setAttribute("aria-hidden", "true");
  cell(row, "status").replaceChildren(i, ` ${status}`);
  if (status !== "online" && status !== "late") FIELDS.forEach((field) => showPercent(row, field, null));
}

function showWhy(row, device) {
  const refusal = device.config_error ? `configuration refused: ${device.config_error}` : "";
  const text = plain(device.status === "online" ? refusal : device.why || "");
  const place = cell(row, "why") || document.getElementById("why");
  // A pending device's fingerprint stays.
  if (place && place.firstElementChild === null && place.textContent !== text) place.textContent = text;
}

const hear = {
  hello(hello) {
    ahead = Date.parse(hello.time) - Date.now();
    if (!hello.resumed) slots.clear();
  },
  index(page) {
    for (const device of page.rows) {
      const row = rows.get(device.uid);
      if (!row) continue;
      slots.set(device.slot, row);
      if (row.dataset.status !== device.status) showStatus(row, device.status);
      showWhy(row, device);
      if (device.last_seen) showSeen(row, Date.parse(device.last_seen));
    }
  },
  values(values) {
    for (const [slot, seen, cpu, mem, disk, temp] of values.rows) {
      const row = slots.get(slot);
      if (!row || !["online", "late"].includes(row.dataset.status)) continue;
      showSeen(row, seen);
      [cpu, mem, disk].forEach((value, at) => showPercent(row, FIELDS[at], value));
      const td = cell(row, "temp");
      if (td && temp !== null) td.textContent = `${temp} °C`;
    }
  },
  counts(counts) {
    const text = JSON.stringify(counts);
    if (counted !== null && counted !== text) waiting = true;
    counted = text;
  },
  health() {
    waiting = true;
  },
  event() {
    waiting = true;
  },
  ping(ping) {
    ahead = Date.parse(ping.time) - Date.now();
  },
};

function connect() {
  if (source || document.hidden || !document.querySelector("#summary, #curves")) return;
  if (Date.now() - refused < REFUSED_MS) return;
  const only = [...rows.keys()].join(",") || NOBODY;
  // The overview lists what happened to any device.
  const events = document.getElementById("summary") ? "&events=all" : "";
  source = new EventSource(`/api/v1/stream?only=${only}${events}`);
  for (const [name, take] of Object.entries(hear)) {
    source.addEventListener(name, (message) => {
      heard = Date.now();
      take(JSON.parse(message.data));
      tell();
    });
  }
  source.onerror = () => {
    // The browser tries again by itself, unless the server said no, perhaps to an old session.
    if (source?.readyState === EventSource.CLOSED) {
      refused = Date.now();
      disconnect();
      redraw();
    }
    tell();
  };
}

function disconnect() {
  if (source) source.close();
  source = null;
}

// A log of the device: what the server drew is taken over by what comes from there.
const log = document.getElementById("log");
const note = document.getElementById("log-note");
let following = null;
let isFresh = false; // whether the past is about to come again
let closed = -Infinity;

function item({ timestamp, level, text }) {
  const li = document.createElement("li");
  const at = document.createElement("span");
  at.className = "muted";
  at.textContent = timestamp;
  li.append(at, " ", mark(level, TONES[level] || "plain"), ` ${plain(text.replaceAll("\t", "    "))}`);
  return li;
}

const hearLog = {
  hello(hello) {
    isFresh = true;
    hearLog.link(hello);
  },
  lines({ lines, dropped }) {
    const list = log.querySelector("ol");
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const items = lines.map(item);
    // Neither lines nor a count: some may be missing, and nobody knows how many.
    if (dropped || !lines.length) {
      const li = document.createElement("li");
      li.append(mark(dropped ? `${dropped} lines are left out here` : "Lines may be missing here", "muted"));
      items.unshift(li);
    }
    if (isFresh) list.replaceChildren(...items);
    else list.append(...items);
    isFresh = false;
    while (list.childElementCount > LINES_MAX) list.firstElementChild.remove();
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  },
  link({ connected }) {
    note.textContent = connected ? "" : "The device is not connected. Its lines go on when it is.";
  },
  over({ reason }) {
    note.textContent = `No more lines: ${plain(reason)}.`;
    closed = Infinity;
    leaveLog();
  },
};

function followLog() {
  if (!log?.dataset.device || following || document.hidden || Date.now() - closed < REFUSED_MS) return;
  const { device, lines: count, query } = log.dataset;
  following = new EventSource(`/api/v1/devices/${device}/logs?follow=true&limit=${count}${query}`);
  for (const [name, take] of Object.entries(hearLog)) {
    following.addEventListener(name, (message) => take(JSON.parse(message.data)));
  }
  following.onerror = () => {
    if (following?.readyState !== EventSource.CLOSED) return;
    closed = Math.max(closed, Date.now());
    leaveLog();
  };
}

function leaveLog() {
  if (following) following.close();
  following = null;
}

function tell() {
  const isQuiet = source?.readyState === EventSource.OPEN && Date.now() - heard > QUIET_MS;
  if (source?.readyState === EventSource.OPEN && !isQuiet) lost = null;
  else lost ??= isQuiet ? -Infinity : Date.now();
  warn(lost !== null && Date.now() - lost > LOST_MS, heard);
}

function warn(isShown, at) {
  const text = isShown ? `No connection to the server. This is ${age(at + ahead)} old.` : "";
  if (banner.textContent !== text) banner.textContent = text;
}

function isSignedIn(page) {
  return page.querySelector("header form") !== null;
}

// Not a reload: after a link from elsewhere, that might leave the cookie out again.
function begin() {
  location.replace(location.pathname + location.search);
}

// Loads this page again and takes over the parts that the server draws.
async function redraw() {
  redrawing = true;
  waiting = false;
  missed = true;
  try {
    const url = new URL(location.href);
    if (log) url.searchParams.set("log", "none");
    const reply = await fetch(url, { headers: { Accept: "text/html" } });
    // The session is over, or the device is gone.
    if (reply.redirected || reply.status === 404) return begin();
    if (!reply.ok) return;
    const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
    if (isSignedIn(fresh) !== isSignedIn(document)) return begin();
    missed = false;
    loaded = Date.now();
    document.title = fresh.title;
    for (const id of REDRAWN) {
      const [old, now] = [document.getElementById(id), fresh.getElementById(id)];
      if (!old || !now || old.innerHTML === now.innerHTML) continue;
      const isOpen = old.querySelector("details")?.open;
      old.replaceChildren(...now.childNodes);
      if (isOpen) old.querySelector("details").open = true;
    }
    const listed = [...fresh.querySelectorAll("tbody tr[id]")].map((row) => row.id).join();
    const again = document.getElementById("again");
    if (again) again.hidden = listed === [...rows.keys()].join();
  } catch {
    // The stream finds out, too, and the banner says so.
  } finally {
    redrawn = Date.now();
    redrawing = false;
  }
}

function tick() {
  if (document.hidden) return;
  connect();
  followLog();
  for (const time of document.querySelectorAll("time")) {
    const text = age(Date.parse(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
  const since = Date.now() - redrawn;
  const isDue = waiting ? since > REDRAW_MS : document.getElementById("curves") && since > CURVES_MS;
  if (isDue && !redrawing && source?.readyState === EventSource.OPEN) redraw();
  tell();
}

// There is no stream for who is not signed in: the numbers come with the page itself.
function look() {
  if (document.hidden || redrawing) return;
  if (Date.now() - redrawn > CURVES_MS) redraw();
  else warn(missed, loaded);
}

// Who comes by a link from elsewhere arrives without a cookie; a request of our own brings it.
async function goOn(form) {
  try {
    const reply = await fetch("/sign-in", { headers: { Accept: "application/json" } });
    if (reply.ok && (await reply.json()).signed_in) location.replace(form.elements.next.value);
  } catch {
    // The form is there all the same.
  }
}

const form = document.getElementById("sign-in");
if (form) {
  goOn(form);
} else if (rows.size > 0 || document.getElementById("events")) {
  document.addEventListener("visibilitychange", () => {
    lost = null;
    waiting = true;
    if (document.hidden) {
      disconnect();
      leaveLog();
    } else {
      connect();
      followLog();
    }
  });
  connect();
  followLog();
  setInterval(tick, 1_000);
} else if (document.getElementById("summary")) {
  setInterval(look, 1_000);
}
