// Which rows of a table are shown. The address of the page says it: a claim is a link, Back works, a view can be sent.

/** Kernels of a run: their place in addresses, and the keys by which they can be chosen with their names there. */
const KERNELS = {
  place: "kernels",
  facets: {
    phase: "phase",
    bound: "bound",
    module_group: "module",
    op: "op",
    name: "kernel",
    shapes: "shapes",
    dtype: "precision",
    unit: "unit",
    roof: "roof",
  },
};
const QUERY = "q";

/** The address of the rows with the given facets, such as {op: "aten::mm", phase: "backward"}, and search text. */
function addressOf(facets, query = "", of = KERNELS) {
  const parameters = new URLSearchParams();
  for (const [key, name] of Object.entries(of.facets)) if (facets[key] !== undefined) parameters.set(name, facets[key]);
  if (query) parameters.set(QUERY, query);
  const text = parameters.toString();
  return `#${of.place}${text ? `?${text}` : ""}`;
}

/** Facets and search text of an address; null when it is the address of something else. */
function readAddress(hash, of = KERNELS) {
  const [place, text] = hash.replace(/^#/, "").split(/\?(.*)/s);
  if (place !== of.place || text === undefined) return null;
  const parameters = new URLSearchParams(text);
  const facets = {};
  for (const [key, name] of Object.entries(of.facets)) if (parameters.has(name)) facets[key] = parameters.get(name);
  return { facets, query: parameters.get(QUERY) || "" };
}

/** A link to kernels. `options` are those of `el`. */
function kernelLink(facets, options = {}, ...children) {
  return el("a", { href: addressOf(facets), ...options }, ...children);
}

/**
 * The choice of rows: {facets, query, change(facets, query), onChange(listener), start()}. It follows the address of the
 * page, and writes changes back to it without a new entry in the history. `arrived` is called when a link was followed.
 */
function rowFilter(arrived, of = KERNELS) {
  const listeners = [];
  const state = { facets: {}, query: "", change, onChange: (listener) => listeners.push(listener) };

  function set(facets, query) {
    state.facets = { ...facets };
    state.query = query;
    for (const listener of listeners) listener(state);
  }

  function change(facets, query = state.query) {
    try {
      history.replaceState(null, "", addressOf(facets, query, of));
    } catch {
      // A page without an address of its own filters all the same.
    }
    set(facets, query);
  }

  function follow() {
    const read = readAddress(location.hash, of);
    if (!read) return false;
    set(read.facets, read.query);
    arrived();
    return true;
  }

  window.addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    // The browser says nothing about a link to where it is already.
    if (link && link.getAttribute("href") === location.hash) follow();
  });
  return Object.assign(state, { start: () => follow() || set({}, "") });
}

/** What the kernel table is called, searched and chosen by, and the column that says what each row weighs. */
const KERNEL_CONTROLS = {
  what: "kernels",
  searched: "op, kernel, module, shapes",
  weight: "share",
  selects: {
    phase: ["All phases", phaseName],
    bound: ["All bounds", String],
    module_group: ["All modules", (name) => shorten(name, 44) || NO_MODULE],
  },
};

/** Search box, select boxes, chips for all other facets, and a button that clears them. */
function filterBar(host, data, filter, of = KERNELS, controls = KERNEL_CONTROLS) {
  const search = el("input", {
    type: "search",
    id: `${of.place}-search`,
    placeholder: `Search ${controls.searched}`,
    "aria-label": `Search ${controls.what}`,
    on: { input: () => filter.change(filter.facets, search.value) },
  });
  const selects = Object.fromEntries(
    Object.entries(controls.selects).map(([key, [title, nameOf]]) => [key, facetSelect(key, title, data, filter, nameOf, of, controls.weight)]),
  );
  const chips = el("span", { class: "chips" });
  const clear = el("button", {
    type: "button",
    class: "clear",
    text: "Clear filters",
    on: {
      click: () => {
        filter.change({}, "");
        search.focus(); // the button is gone, the focus must not be
      },
    },
  });
  host.replaceChildren(search, ...Object.values(selects), chips, clear);
  filter.onChange(({ facets, query }) => {
    if (search.value !== query) search.value = query;
    for (const [key, select] of Object.entries(selects)) {
      select.value = facets[key] === undefined ? "*" : `=${facets[key]}`;
      select.classList.toggle("active", facets[key] !== undefined);
    }
    const others = Object.entries(facets).filter(([key]) => !(key in selects));
    chips.replaceChildren(...others.map(([key, value]) => facetChip(of.facets[key], key, value, filter, search)));
    clear.hidden = !query && !Object.keys(facets).length;
  });
}

/** A select box of a facet's values, those with the most time (where a column of weights is named, else rows) first. */
function facetSelect(key, title, data, filter, nameOf, of, weight) {
  const { labels, codes } = data.texts[key];
  const shares = labels.map(() => 0);
  codes.forEach((code, row) => (shares[code] += weight ? data.numbers[weight][row] || 0 : 1));
  const order = labels.map((_, index) => index).sort((a, b) => shares[b] - shares[a]);
  const select = el(
    "select",
    { id: `${of.place}-${key.replace(/\W+/g, "-")}`, "aria-label": title.replace("All", "Filter by").replace(/s$/, "") },
    el("option", { value: "*", text: title }),
    order.map((index) =>
      el("option", { value: `=${labels[index]}`, text: `${nameOf(labels[index])} · ${weight ? percent(shares[index]) : count(shares[index])}` }),
    ),
  );
  select.addEventListener("change", () => {
    const facets = { ...filter.facets };
    if (select.value === "*") delete facets[key];
    else facets[key] = select.value.slice(1);
    filter.change(facets);
  });
  return select;
}

function facetChip(name, key, value, filter, search) {
  const text = `${name}: ${key === "op" ? opName(value) : shorten(value || UNKNOWN, 40)}`;
  return el("button", {
    type: "button",
    class: "chip",
    "aria-label": `Remove filter ${text}`,
    text: `${text} ×`,
    on: {
      click: () => {
        const facets = { ...filter.facets };
        delete facets[key];
        filter.change(facets);
        search.focus({ preventScroll: true });
      },
    },
  });
}
