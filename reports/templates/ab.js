// Puts the A/B page together: the answer, a section per problem, and what the numbers rest on.

function chip(verdict) {
  return el(
    "span",
    { class: `verdict-chip ${verdictClass(verdict)}` },
    el("span", { class: `swatch ${verdictClass(verdict)}` }),
    verdict,
  );
}

/** A table whose verdicts are marked in colour, and whose providers are explained where `notes` has their names. */
function resultTable(caption, table) {
  const cells = {
    verdict: chip,
    provider: (name) => el("span", { class: "provider" }, el("b", { text: name }), el("span", { text: (table.notes || {})[name] })),
  };
  const rows = table.rows.map((row) => row.map((cell, index) => (cells[table.heads[index]] || ((text) => text))(cell)));
  return simpleTable(caption, table.heads, rows);
}

function figureOf(caption, draw) {
  const figure = el("figure", {}, el("figcaption", { text: caption }));
  drawnAtWidth(figure, draw);
  return figure;
}

function problemSection(problem, index) {
  const id = `problem-${index}`;
  const figures = el("div", { class: "ab-figures" });
  if (problem.intervals.length)
    figures.append(
      figureOf("Ratio to the base with its 95 % interval; the band is the noise floor of the A/A run.", (width) =>
        intervalPlot(problem, width),
      ),
    );
  if (problem.points.length)
    figures.append(
      figureOf("Providers under the roof: to the right, fewer bytes for the same arithmetic; up, faster.", (width) =>
        providerRoofline(problem, width),
      ),
    );
  return el(
    "section",
    { id, "aria-labelledby": `${id}-h`, "data-nav": problem.name },
    el("h2", { id: `${id}-h`, text: problem.title }),
    el("p", { class: "lead", text: `${problem.size}. ${problem.noise}.` }),
    figures,
    resultTable(`Providers of ${problem.title}`, problem.table),
    problem.parts ? el("div", {}, el("h3", { text: "Parts of a call" }), resultTable("Parts", problem.parts)) : null,
    problem.missing.length ? el("h3", { text: "Not timed" }) : null,
    problem.missing.length ? facts(problem.missing.map(([name, reason]) => [name, "", reason])) : null,
  );
}

masthead({ kind: "A/B", title: data.title, setting: data.setting });
byId("headlines").append(...data.headlines.map((line) => el("li", { text: unbroken(line) })));
if (data.warnings.length) byId("warnings").append(warningsBox("Before you believe it", data.warnings));
byId("main").insertBefore(
  el("div", { id: "problems" }, data.problems.map(problemSection)),
  byId("method"),
);
byId("roof-note").textContent = data.roof;
byId("roof-note").after(...data.notes.map((line) => el("li", { text: line })));
byId("machine").append(facts(data.machine.map(([name, value]) => [name, value])));
byId("environment").append(facts(data.environment.map(([name, value]) => [name, value])));
footer(data.command, data.created);
finish();
