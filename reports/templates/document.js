// Puts a report of sections together: the answer, then each section's text, facts, tables and figures.

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

document.documentElement.dataset.kind = data.kind;
masthead({ kind: `${data.name} · ${data.kind}`, title: data.title, setting: data.setting, note: data.note });
const [headline, ...others] = data.headlines.map((line, index) => withClaims(line, data.claims[index] || []));
byId("headline").append(...(headline || ["There is nothing to say."]));
byId("details").append(...others.map((line) => el("li", {}, line)));
if (data.warnings.length) byId("warnings").append(warningsBox("", data.warnings));
byId("main").append(...data.sections.map(sectionOf));
for (const table of choiceTables) table.start();
if (data.kind === "projected" || data.kind === "simulated") tagHeadings(data.kind);
footer(data.command, data.created);
finish();
