// The rest of the page: figures that enlarge, copying and saving, which section is being read.
const Page = (() => {
  async function copy(text, button) {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      area.style.position = "fixed";
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.style.minWidth = `${button.offsetWidth}px`;
    button.dataset.label ||= button.textContent;
    button.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => { button.textContent = button.dataset.label; }, 1500);
  }

  function save(text, name, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function codeButtons() {
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[data-action]");
      if (!button) return;
      const text = button.closest(".code").querySelector("pre").textContent;
      if (button.dataset.action === "copy-code") copy(text, button);
      else save(text, button.dataset.file, "application/toml");
    });
  }

  // A figure stands in the file once; where it is shown again, it is taken from there.
  function copies() {
    for (const image of document.querySelectorAll("img[data-copy]")) {
      image.src = document.getElementById(image.dataset.copy).src;
    }
  }

  function enlarging() {
    const dialog = document.getElementById("enlarged");
    const [sheet, caption, place] = [".sheet img", ".caption", ".place"].map((name) => dialog.querySelector(name));
    let group = [], at = 0;
    const show = (wanted) => {
      at = (wanted + group.length) % group.length;
      const image = group[at].querySelector("img");
      sheet.src = image.src;
      sheet.alt = image.alt;
      caption.textContent = image.alt;
      place.textContent = `${at + 1} of ${group.length}, ${image.dataset.run}`;
    };
    document.addEventListener("click", (event) => {
      const button = event.target.closest(".enlarge");
      if (!button) return;
      group = [...button.closest(".figures").querySelectorAll(".enlarge")];
      show(group.indexOf(button));
      for (const step of dialog.querySelectorAll("[data-step]")) step.disabled = group.length < 2;
      dialog.showModal();
      dialog.querySelector(".close").focus();
    });
    dialog.addEventListener("click", (event) => {
      const step = event.target.closest("[data-step]");
      if (step) show(at + Number(step.dataset.step));
      else if (event.target === dialog || event.target.closest(".close, .sheet")) dialog.close();
    });
    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) show(at + step);
    });
    dialog.addEventListener("close", () => group[at]?.focus({ preventScroll: true }));
  }

  function matrixChoice() {
    const buttons = [...document.querySelectorAll("[data-rows]")];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        for (const row of document.querySelectorAll(".matrix tbody tr")) {
          row.hidden = button.dataset.rows !== "all" && row.dataset[button.dataset.rows] !== "true";
        }
      });
    }
  }

  function reading() {
    const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
    const sections = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
    const mark = () => {
      const passed = sections.filter((section) => section.getBoundingClientRect().top < 160);
      const current = links.get((passed.at(-1) || sections[0])?.id);
      for (const link of links.values()) {
        if (link === current) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
      if (current) follow(current);
    };
    const contents = document.querySelector(".contents");
    const follow = (link) => {  // a long list of contents scrolls along
      const [own, around] = [link.getBoundingClientRect(), contents.getBoundingClientRect()];
      if (own.top < around.top || own.bottom > around.bottom) contents.scrollTop += own.top - around.top - around.height / 2;
    };
    let waiting = false;
    document.addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; mark(); });
    }, { passive: true });
    mark();
  }

  function start() {
    copies();
    codeButtons();
    enlarging();
    matrixChoice();
    Tables.start();
    reading();
  }

  return { copy, save, start };
})();
Page.start();
