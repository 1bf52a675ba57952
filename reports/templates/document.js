// Puts a report of sections together: the answer, then each section's text, facts, tables and figures.

const data = JSON.parse(byId("data").textContent);

function sectionOf(section, index) {
  const id = `section-${index}`;
  return el(
    "section",
    { id, "aria-labelledby": `${id}-h`, "data-nav": section.title },
    el("h2", { id: `${id}-h`, text: section.title }),
    section.lead ? el("p", { class: "lead", text: section.lead }) : null,
    drawBlocks(section.blocks),
  );
}

document.documentElement.dataset.kind = data.kind === "measured" ? "measured" : "projected";
byId("kind").textContent = `edgeroof · ${data.name} · ${data.kind}`;
byId("title").textContent = data.title;
byId("setting").textContent = data.setting;
if (data.note) {
  byId("banner").textContent = data.note;
  byId("banner").hidden = false;
}
const [headline, ...others] = data.headlines;
byId("headline").textContent = headline || "There is nothing to say.";
byId("details").append(...others.map((line) => el("li", { text: line })));
if (data.warnings.length)
  byId("warnings").append(
    el(
      "div",
      { class: "warnings", role: "note" },
      el("h3", { text: data.warnings.length === 1 ? "Warning" : "Warnings" }),
      el(
        "ul",
        {},
        data.warnings.map((line) => el("li", { text: line })),
      ),
    ),
  );
byId("main").append(...data.sections.map(sectionOf));
if (data.kind === "projected" || data.kind === "simulated")
  for (const heading of document.querySelectorAll("main h2")) heading.append(el("span", { class: "tag", text: data.kind }));
byId("footer").textContent = [data.command, data.created].filter(Boolean).join(" · ");
byId("nav").append(
  ...[...document.querySelectorAll("main section")].map((section) =>
    el("li", {}, el("a", { href: `#${section.id}`, text: section.dataset.nav })),
  ),
);
document.documentElement.dataset.ready = String(Math.round(performance.now()));
