"use strict";
// Tables with sorting, filtering, a choice of columns, pages and CSV. One page of rows is in the document at a time.
const Tables = (() => {
  const NUMBERS = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };
  const SIZES = [25, 50, 100, 250, 500];
  const WIDEST = 384; // of a column, in pixels, as the style sheet has it
  const HELP = "Filters: part of a text; = text, != text; > 0.3, <= 2, = 5, 0.1..0.5, > 1 < 3; none for empty cells.";

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value === true) made.setAttribute(key, "");
      else if (value !== false && value !== null) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  // A column: `at(row)` is its value there; numbers that JSON lacks come as text.
  function column(raw) {
    const value = raw.type === "number" ? (v) => (typeof v === "string" ? NUMBERS[v] : v) : (v) => v;
    const values = (raw.distinct || raw.values || []).map(value);
    const at = raw.codes ? (row) => values[raw.codes[row]] : (row) => values[row];
    return { ...raw, distinct: values, at, shown: !raw.hidden };
  }

  function numberText(value) {
    if (Number.isNaN(value)) return "nan";
    if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
    if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-4 || size >= 1e7) ? value.toExponential(4) : value.toPrecision(6);
    return text.replace(/(\.\d*?)0+(e|$)/, "$1$2").replace(/\.(e|$)/, "$1").replace("e+", "e");
  }

  function text(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return numberText(value);
    if (Array.isArray(value)) return `[${value.map(text).join(", ")}]`;
    return String(value);
  }

  function cellText(value) {
    if (!Array.isArray(value) || value.length <= 6) return text(value);
    return `[${value.slice(0, 4).map(text).join(", ")}, … ${value.length} values]`;
  }

  // What a filter says, as a test of a value; null where it says nothing, undefined where it can't be read.
  function test(filter, type) {
    const wanted = filter.trim();
    if (!wanted) return null;
    if (wanted.toLowerCase() === "none") return (v) => v === null || v === "";
    const numeric = type === "number";
    const range = numeric && wanted.match(/^(\S+?)\s*(?:\.\.|to)\s*(\S+)$/);
    if (range) {
      const [low, high] = [number(range[1]), number(range[2])];
      return low === undefined || high === undefined ? undefined : (v) => v !== null && v >= low && v <= high;
    }
    if (numeric && /^(?:[<>]=?|!?=)/.test(wanted)) {
      const conditions = [...wanted.matchAll(/(<=|>=|!=|<|>|=)\s*([^\s<>=!,]+)\s*(?:,|and\b|&)?\s*/gy)];
      const read = conditions.reduce((sum, found) => sum + found[0].length, 0);
      const numbers = conditions.map((found) => number(found[2]));
      if (read !== wanted.length || numbers.includes(undefined)) return undefined;
      const all = conditions.map((found, i) => comparison(found[1], numbers[i]));
      return (v) => v !== null && all.every((one) => one(v));
    }
    if (wanted.startsWith("!=")) return (v) => text(v).toLowerCase() !== wanted.slice(2).trim().toLowerCase();
    if (wanted.startsWith("=")) return (v) => text(v).toLowerCase() === wanted.slice(1).trim().toLowerCase();
    if (numeric && number(wanted) !== undefined) {
      return (v) => v !== null && (same(v, number(wanted)) || text(v).startsWith(wanted) || String(v).startsWith(wanted));
    }
    const part = wanted.toLowerCase();
    return (v) => text(v).toLowerCase().includes(part);
  }

  function number(word) {
    const named = { nan: NaN, inf: Infinity, "+inf": Infinity, "-inf": -Infinity }[word.toLowerCase()];
    if (named !== undefined) return named;
    const value = Number(word);
    return word === "" || Number.isNaN(value) ? undefined : value;
  }

  // Numbers are equal also to what a cell shows of them: six digits.
  function same(a, b) {
    return Object.is(a, b) || a === b || (Number.isFinite(a) && numberText(a) === numberText(b));
  }

  function comparison(sign, wanted) {
    return {
      "<": (v) => v < wanted, "<=": (v) => v <= wanted, ">": (v) => v > wanted, ">=": (v) => v >= wanted,
      "=": (v) => same(v, wanted), "!=": (v) => !same(v, wanted),
    }[sign];
  }

  // Numbers by size, text by its own order with numbers in it by size; nothing and nan at the end, both ways.
  const collator = new Intl.Collator("en", { numeric: true });
  function compare(a, b, direction) {
    const [lackA, lackB] = [lacking(a), lacking(b)];
    if (lackA || lackB) return lackA - lackB;
    if (typeof a === "number" && typeof b === "number") return direction * (a < b ? -1 : a > b ? 1 : 0);
    return direction * collator.compare(text(a), text(b));
  }
  const lacking = (v) => (v === null || v === undefined || v === "" ? 2 : Number.isNaN(v) ? 1 : 0);

  function csvCell(value) {
    let cell = value === null || value === undefined ? "" : typeof value === "number" ? plainNumber(value) : "";
    if (typeof value === "boolean") cell = value ? "True" : "False";
    if (Array.isArray(value)) cell = `[${value.map((v) => csvCell(v)).join(", ")}]`;
    if (typeof value === "string") cell = value;
    return cell;
  }
  const plainNumber = (v) => (Number.isFinite(v) ? String(v) : numberText(v));
  const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

  const pen = document.createElement("canvas").getContext("2d");
  function measure(words, font, family) {
    pen.font = `${font} ${getComputedStyle(document.documentElement).getPropertyValue(family)}`;
    return pen.measureText(words).width;
  }

  // The longest texts of a column, as cells show them.
  function longest(one) {
    const found = new Set();
    for (const value of one.distinct) {
      const cell = cellText(value);
      if (cell.length > 120) return [cell]; // wider than any column is
      found.add(cell);
    }
    return [...found].sort((a, b) => b.length - a.length).slice(0, 12);
  }

  class Grid {
    constructor(box) {
      const data = JSON.parse(box.querySelector("script").textContent);
      this.box = box;
      this.rows = data.rows;
      this.columns = data.columns.map(column);
      if (data.drawn) this.columns.splice(data.drawn.after, 0, drawn(data.drawn, this.columns));
      this.filters = new Map();
      this.sorting = null;
      this.size = 50;
      this.page = 0;
      this.build();
      this.update();
    }

    get visible() { return this.columns.filter((one) => one.shown); }

    build() {
      const name = this.box.dataset.name;
      this.count = element("span", { class: "count", role: "status", "aria-live": "polite" });
      this.first = element("button", { type: "button", "aria-label": "First page", onclick: () => this.go(0) }, "«");
      this.previous = element("button", { type: "button", "aria-label": "Previous page", onclick: () => this.go(this.page - 1) }, "‹");
      this.next = element("button", { type: "button", "aria-label": "Next page", onclick: () => this.go(this.page + 1) }, "›");
      this.last = element("button", { type: "button", "aria-label": "Last page", onclick: () => this.go(Infinity) }, "»");
      this.pages = element("span", { class: "pages" });
      const sizes = element("select", { "aria-label": "Rows on a page", onchange: (event) => { this.size = Number(event.target.value); this.go(0); } },
        ...SIZES.map((size) => element("option", { value: size, selected: size === this.size }, `${size} rows`)));
      this.clear = element("button", { type: "button", onclick: () => this.reset() }, "Clear");
      this.copy = element("button", { type: "button", onclick: () => Page.copy(this.csv(), this.copy) }, "Copy CSV");
      const save = element("button", { type: "button", onclick: () => Page.save(this.csv(), this.box.dataset.file, "text/csv") }, "Save CSV");
      const tools = element("div", { class: "grid-tools", role: "group", "aria-label": `${name}: tools` }, this.count, this.clear,
        element("span", { class: "pager" }, this.first, this.previous, this.pages, this.next, this.last, sizes), this.chooser(), this.copy, save);
      this.head = element("thead");
      this.body = element("tbody");
      this.frame = element("div", { class: "grid-box", tabindex: "0", role: "region", "aria-label": name },
        element("table", {}, this.head, this.body));
      this.message = element("p", { class: "grid-message" }, HELP);
      this.box.append(tools, this.frame, this.message);
      this.buildHead();
      this.box.style.minHeight = "";  // it kept the place until now
    }

    chooser() {
      const panel = element("div", { hidden: true, role: "group", "aria-label": "Columns" });
      const button = element("button", { type: "button", "aria-expanded": "false", onclick: () => open(panel.hidden) }, "Columns");
      this.columnsButton = button;
      const open = (wanted) => { panel.hidden = !wanted; button.setAttribute("aria-expanded", String(wanted)); };
      const boxes = [];
      const show = (one, shown) => { one.shown = shown; if (!shown) this.filters.delete(one); };
      for (const group of new Set(this.columns.map((one) => one.group))) {
        const set = element("fieldset", {}, element("legend", {}, group));
        for (const one of this.columns.filter((c) => c.group === group)) {
          const box = element("input", { type: "checkbox", checked: one.shown, onchange: () => { show(one, box.checked); this.buildHead(); this.update(); } });
          boxes.push([one, box]);
          set.append(element("label", {}, box, one.name));
        }
        panel.append(set);
      }
      const all = (wanted) => { for (const [one, box] of boxes) { box.checked = wanted(one); show(one, box.checked); } this.buildHead(); this.update(); };
      panel.prepend(element("div", { class: "all" },
        element("button", { type: "button", onclick: () => all(() => true) }, "All"),
        element("button", { type: "button", onclick: () => all((one) => !one.hidden) }, "Default")));
      const holder = element("div", { class: "columns", onkeydown: (event) => { if (event.key === "Escape" && !panel.hidden) { open(false); button.focus(); } } }, button, panel);
      document.addEventListener("click", (event) => { if (!holder.contains(event.target)) open(false); });
      holder.addEventListener("focusout", (event) => { if (event.relatedTarget && !holder.contains(event.relatedTarget)) open(false); });
      return holder;
    }

    buildHead() {
      const titles = element("tr"), filters = element("tr");
      for (const one of this.visible) {
        const right = one.type === "number" ? "number" : null;
        const arrow = element("span", { class: "arrow", "aria-hidden": "true" });
        const button = element("button", { type: "button", class: "sort", onclick: () => this.sort(one) }, element("span", {}, one.name), arrow);
        one.title = element("th", { scope: "col", class: right, "aria-sort": one.draw ? null : "none" }, one.draw ? element("span", { class: "sort" }, one.name) : button);
        one.title.style.minWidth = `${this.width(one)}px`;
        one.arrow = arrow;
        titles.append(one.title);
        const input = element("input", { type: "text", "aria-label": `Filter ${one.name}`, placeholder: right ? "> 0.3" : "text", autocomplete: "off", spellcheck: "false", oninput: () => this.filter(one, input) });
        input.value = this.filters.get(one)?.text || "";
        one.input = input;
        filters.append(element("td", {}, one.draw ? "" : input));
      }
      this.head.replaceChildren(titles, filters);
      this.columnsButton.textContent = `Columns (${this.visible.length} of ${this.columns.length})`;
      this.showSorting();
    }

    // Wide enough for what is on other pages too, so that turning pages moves nothing: the longest texts are measured.
    width(one) {
      if (one.draw) return 170;
      one.wide ??= Math.max(measure(one.name, "600 12.2px", "--mono") + 38, ...longest(one).map((cell) => measure(cell, "13px", "--sans") + 24));
      return Math.min(Math.ceil(one.wide), WIDEST);
    }

    filter(one, input) {
      const made = test(input.value, one.type);
      input.setAttribute("aria-invalid", String(made === undefined));
      this.message.textContent = made === undefined ? `${one.name}: “${input.value.trim()}” is no filter yet. ${HELP}` : HELP;
      if (made === undefined) return;
      if (made === null) this.filters.delete(one);
      else this.filters.set(one, { test: made, text: input.value });
      this.page = 0;
      this.update();
    }

    reset() {
      this.filters.clear();
      for (const one of this.visible) { one.input.value = ""; one.input.setAttribute("aria-invalid", "false"); }
      this.message.textContent = HELP;
      this.page = 0;
      this.update();
    }

    sort(one) {
      const direction = this.sorting?.column === one ? { 1: -1, "-1": 0 }[this.sorting.direction] : 1;
      this.sorting = direction ? { column: one, direction } : null;
      this.page = 0;
      this.showSorting();
      this.update();
    }

    showSorting() {
      for (const one of this.visible) {
        if (one.draw) continue;
        const direction = this.sorting?.column === one ? this.sorting.direction : 0;
        one.title.setAttribute("aria-sort", direction === 0 ? "none" : direction > 0 ? "ascending" : "descending");
        one.arrow.textContent = direction === 0 ? "" : direction > 0 ? "▲" : "▼";
      }
    }

    go(page) { this.page = page; this.draw(); this.frame.scrollTop = 0; }

    update() {
      let order = Array.from({ length: this.rows }, (_, row) => row);
      for (const [one, filter] of this.filters) order = order.filter((row) => filter.test(one.at(row)));
      if (this.sorting) {
        const { column: one, direction } = this.sorting;
        order.sort((a, b) => compare(one.at(a), one.at(b), direction));
      }
      this.order = order;
      this.draw();
    }

    draw() {
      const total = this.order.length, pages = Math.max(1, Math.ceil(total / this.size));
      this.page = Math.min(Math.max(0, this.page), pages - 1);
      const start = this.page * this.size, rows = this.order.slice(start, start + this.size);
      const shown = this.visible;
      this.body.replaceChildren(...rows.map((row) => element("tr", {}, ...shown.map((one) => this.cell(one, row)))));
      if (!total) this.body.append(element("tr", {}, element("td", { class: "nothing", colspan: shown.length || 1 }, "No row meets the filters.")));
      const all = this.rows.toLocaleString("en"), some = total.toLocaleString("en");
      const of = total === this.rows ? `${all} rows` : `${some} of ${all} rows`;
      this.count.textContent = total ? `${of}, ${(start + 1).toLocaleString("en")} to ${(start + rows.length).toLocaleString("en")} shown` : of;
      this.pages.textContent = `${(this.page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`;
      this.first.disabled = this.previous.disabled = this.page === 0;
      this.last.disabled = this.next.disabled = this.page === pages - 1;
      this.clear.disabled = this.filters.size === 0;
      // The box keeps the height that it had once: what stands below does not move while filters are typed.
      this.height = Math.max(this.height || 0, this.frame.offsetHeight);
      this.frame.style.minHeight = `${this.height}px`;
    }

    cell(one, row) {
      if (one.draw) return element("td", {}, one.draw(row));
      const value = one.at(row), lack = lacking(value) === 2;
      const kind = lack ? "none" : one.name === "status" && value === "failed" ? "failed" : "";
      const full = typeof value === "number" ? plainNumber(value) : text(value);
      const short = lack ? "–" : cellText(value);
      const classes = `${one.type === "number" ? "number " : ""}${kind}`.trim();
      return element("td", { class: classes || null, title: !lack && full !== short ? full.slice(0, 2000) : null }, short);
    }

    csv() {
      const shown = this.visible.filter((one) => !one.draw);
      const lines = [shown.map((one) => quoted(one.name)), ...this.order.map((row) => shown.map((one) => quoted(csvCell(one.at(row)))))];
      return lines.map((line) => `${line.join(",")}\n`).join("");
    }
  }

  // Measured over predicted with its interval, on one axis for the whole table that has 1 in its middle.
  function drawn(raw, columns) {
    const by = Object.fromEntries(columns.map((one) => [one.name, one]));
    const ratio = (name, row) => (by.predicted.at(row) ? by[name].at(row) / by.predicted.at(row) : NaN);
    const far = [];
    for (let row = 0; row < (by.ratio.codes || by.ratio.distinct).length; row++) {
      for (const name of ["low", "high"]) { const d = Math.abs(ratio(name, row) - 1); if (Number.isFinite(d)) far.push(d); }
      const d = Math.abs(by.ratio.at(row) - 1); if (Number.isFinite(d)) far.push(d);
    }
    far.sort((a, b) => a - b);
    const span = (far[Math.floor(0.95 * far.length)] || 0.1) * 1.1 || 0.1;
    const place = (value) => 75 + 70 * Math.min(1, Math.max(-1, (value - 1) / span));
    const shape = (name, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      return made;
    };
    const draw = (row) => {
      const [low, high] = [ratio("low", row), ratio("high", row)].sort((a, b) => a - b);
      const value = by.ratio.at(row);
      const picture = shape("svg", { class: "ratio", viewBox: "0 0 150 14", role: "img", "aria-label": `ratio ${text(value)}` });
      picture.append(shape("line", { class: "one", x1: 75, x2: 75, y1: 0, y2: 14 }));
      if (!Number.isNaN(low) && !Number.isNaN(high)) picture.append(shape("line", { class: "bar", x1: place(low), x2: place(high), y1: 7, y2: 7 }));
      if (Number.isFinite(value)) picture.append(shape("circle", { class: "dot", cx: place(value), cy: 7, r: 3.2 }));
      return picture;
    };
    const name = `ratio, 1 ± ${numberText(Number(span.toPrecision(2)))}`;
    return { name, group: raw.group, type: "drawn", distinct: [], at: () => null, shown: true, hidden: false, draw };
  }

  return { start: () => document.querySelectorAll(".grid").forEach((box) => { box.grid = new Grid(box); }) };
})();
