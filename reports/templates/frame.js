// What every report has around its sections: title, warnings, navigation, footer, and the choice of light or dark.

/** Data of the page; embedded as JSON, so that nothing of it is ever markup. */
const data = JSON.parse(byId("data").textContent);

const THEMES = ["auto", "light", "dark"];

/** The head of the page: `kind` is what is told beside the brand, `note` explains it in a banner. */
function masthead({ kind, title, setting, note }) {
  for (const place of ["kind", "nav-kind"]) byId(place).textContent = kind;
  byId("title").textContent = title;
  byId("setting").textContent = setting;
  byId("banner").textContent = note || "";
  byId("banner").hidden = !note;
}

/** A sentence in which words that claim something lead to what they speak of: `claims` are {text, href}. */
function withClaims(sentence, claims) {
  const nodes = [sentence];
  for (const { text, href } of claims) {
    const at = nodes.findIndex((node) => typeof node === "string" && node.includes(text));
    if (!text || at < 0) continue;
    const before = nodes[at].slice(0, nodes[at].indexOf(text));
    const after = nodes[at].slice(before.length + text.length);
    nodes.splice(at, 1, before, el("a", { class: "claim", href, text: unbroken(text) }), after);
  }
  return nodes.filter((node) => node !== "").map((node) => (typeof node === "string" ? unbroken(node) : node));
}

/** A tag at every heading, for reports of which nothing was measured. */
function tagHeadings(text) {
  for (const heading of document.querySelectorAll("main h2")) heading.append(el("span", { class: "tag", text }));
}

/** A box with what the reader must know; null without any. Children follow the list. */
function warningsBox(title, lines, ...children) {
  if (!lines.length) return null;
  return el(
    "div",
    { class: "warnings", role: "note" },
    el("h3", { text: title || (lines.length === 1 ? "Warning" : "Warnings") }),
    el(
      "ul",
      {},
      lines.map((line) => el("li", {}, line)),
    ),
    children,
  );
}

function footer(...parts) {
  byId("footer").textContent = parts.filter(Boolean).join(" · ");
}

/** Links to the sections that are there; the one being read is marked. */
function navigation() {
  const links = new Map();
  for (const section of document.querySelectorAll("main section:not([hidden])"))
    links.set(section, el("a", { href: `#${section.id}`, text: section.dataset.nav }));
  byId("nav").append(...[...links.values()].map((link) => el("li", {}, link)));
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const link = links.get(target);
        if (!isIntersecting) link.removeAttribute("aria-current");
        else {
          link.setAttribute("aria-current", "true");
          byId("nav").scrollLeft = link.offsetLeft - byId("nav").clientWidth / 2;
        }
      }
    },
    { rootMargin: "-30% 0px -70% 0px" },
  );
  links.forEach((_, section) => observer.observe(section));
  // What kind of numbers these are stays in sight when the masthead is not.
  new IntersectionObserver(([head]) => (byId("nav-kind").hidden = head.isIntersecting)).observe(byId("kind"));
}

/** A button that goes from the system's choice to light to dark. The choice is kept where the browser allows it. */
function themeButton() {
  const button = byId("theme");
  const apply = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  let current = THEMES.includes(kept("edgeroof-theme")) ? kept("edgeroof-theme") : "auto";
  button.addEventListener("click", () => {
    current = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
    keep("edgeroof-theme", current);
    apply(current);
  });
  button.hidden = false;
  apply(current);
}

/** Storage of the browser, which some refuse to pages opened from a file. */
function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // The choice then lasts as long as the page.
  }
}

/** Fold nothing away on paper; afterwards everything is as it was. */
function unfoldForPrint() {
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open], .screen)")];
    for (const details of opened) details.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
}

/** To be called when everything is drawn. */
function finish() {
  navigation();
  themeButton();
  unfoldForPrint();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}
