// A form made from a JSON schema, for the input of a graph and for answers to its questions.
//
// Fields: text, numbers, yes or no, choices, lists of simple values, objects within. What a form
// cannot show well (anything else, and recursion) gets a field for JSON. An empty field that is not
// required is left out of the value.

import { button, h, put } from "./dom.js";

const MAX_DEPTH = 4;

/**
 * Makes a form.
 *
 * @param {object} schema a JSON schema, with `$defs` of its own
 * @param {any} [value] what it shows at first
 * @returns {{element: HTMLElement, read: () => any, peek: () => object, write: (value: any) => void, fits: boolean}}
 *     `read` throws an Error whose message says what to change; `peek` returns the fields that can be
 *     read so far; `fits` is false if all of it is one field for JSON
 */
export function schemaForm(schema, value) {
  const root = schema ?? {};
  const element = h("div.stack.form");
  let field = null;
  const write = (given) => {
    field = fieldOf(root, root, given, 0, "");
    put(element, field.element);
  };
  write(value);
  return { element, write, peek: () => field.peek?.() ?? {}, read: () => field.read() ?? (isObject(resolve(root, root)) ? {} : null), fits: field.kind !== "json" };
}

function resolve(schema, root, depth = 0) {
  let found = schema ?? {};
  if (found.$ref && depth < 8) {
    const path = found.$ref.replace(/^#\//, "").split("/");
    found = resolve(path.reduce((at, key) => at?.[key], root) ?? {}, root, depth + 1);
  }
  if (found.allOf?.length === 1) found = { ...resolve(found.allOf[0], root, depth + 1), ...found, allOf: undefined };
  const choices = (found.anyOf ?? found.oneOf)?.filter((each) => each.type !== "null");
  if (choices?.length === 1) return { ...resolve(choices[0], root, depth + 1), title: found.title ?? choices[0].title, default: found.default };
  if (Array.isArray(found.type)) {
    const types = found.type.filter((each) => each !== "null");
    if (types.length === 1) return { ...found, type: types[0] };
  }
  return found;
}

const isObject = (schema) => schema.type === "object" || Boolean(schema.properties);

function fieldOf(given, root, value, depth, name) {
  const schema = resolve(given, root);
  const start = value === undefined ? schema.default ?? undefined : value;
  if (schema.enum || schema.const !== undefined) return choice(schema, start);
  if (isObject(schema) && schema.properties && depth < MAX_DEPTH) return group(schema, root, start, depth);
  if (schema.type === "string") return text(schema, start, name);
  if (schema.type === "integer" || schema.type === "number") return numeric(schema, start);
  if (schema.type === "boolean") return yesNo(start);
  const items = schema.type === "array" ? resolve(schema.items, root) : null;
  if (items && ["string", "number", "integer"].includes(items.type) && !items.enum) return list(items, start);
  return json(schema, start);
}

function group(schema, root, value, depth) {
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties).map(([name, each]) => {
    const field = fieldOf(each, root, value?.[name], depth + 1, name);
    const found = resolve(each, root);
    const label = h("span.name", name, required.has(name) ? h("span.dim", " · needed") : null);
    const hint = found.description && h("span.hint", found.description);
    const tag = field.kind === "group" || field.kind === "list" ? "div" : "label";
    return { name, field, problem: h("span.problem", { hidden: true }), label, hint, tag };
  });
  const element = h(depth ? "div.stack.nested" : "div.stack", fields.map(({ field, label, hint, problem, tag }) => h(`${tag}.labelled`, label, field.element, hint, problem)));
  return {
    kind: "group",
    element,
    peek() {
      const made = {};
      for (const { name, field } of fields) {
        try {
          made[name] = field.read();
        } catch {
          // What is wrong is said when all of it is read.
        }
      }
      return made;
    },
    read() {
      const made = {};
      for (const { name, field, problem } of fields) {
        problem.hidden = true;
        try {
          const each = field.read();
          if (each !== undefined) made[name] = each;
          else if (required.has(name) && field.kind === "list") made[name] = []; // a list may be empty
          else if (required.has(name)) throw new Error("This is needed.");
        } catch (error) {
          put(problem, error.message);
          problem.hidden = false;
          throw new Error(`${name}: ${error.message}`);
        }
      }
      return Object.keys(made).length || !depth || required.size ? made : undefined;
    },
  };
}

function text(schema, value, name) {
  const long = (schema.maxLength ?? 0) > 200 || /text|content|body|prompt|message|description|comment/i.test(name) || String(value ?? "").includes("\n");
  const element = h(long ? "textarea.field" : "input.field", { value: value ?? "", ...(long ? { rows: 3 } : { type: "text" }) });
  return { kind: "text", element, read: () => (element.value === "" ? undefined : element.value) };
}

function numeric(schema, value) {
  const element = h("input.field", { type: "text", inputMode: "decimal", value: value === undefined || value === null ? "" : String(value) });
  return {
    kind: "number",
    element,
    read() {
      const typed = element.value.trim();
      if (!typed) return undefined;
      const made = Number(typed);
      if (!Number.isFinite(made)) throw new Error("This must be a number.");
      if (schema.type === "integer" && !Number.isInteger(made)) throw new Error("This must be a whole number.");
      if (made < schema.minimum) throw new Error(`This must be at least ${schema.minimum}.`);
      if (made > schema.maximum) throw new Error(`This must be at most ${schema.maximum}.`);
      return made;
    },
  };
}

function yesNo(value) {
  return select([["", undefined], ["yes", true], ["no", false]], value);
}

function choice(schema, value) {
  const all = schema.enum ?? [schema.const];
  return select([["", undefined], ...all.map((each) => [typeof each === "string" ? each : JSON.stringify(each), each])], value ?? (all.length === 1 ? all[0] : undefined));
}

function select(options, value) {
  const element = h("select.field", options.map(([label, each], index) => h("option", { value: String(index), selected: each === value && each !== undefined }, label || "–")));
  return { kind: "choice", element, read: () => options[Number(element.value)][1] };
}

function list(items, value) {
  const rows = h("div.stack");
  const add = (each) => {
    const field = items.type === "string" ? text({}, each, "") : numeric(items, each);
    field.element.setAttribute("aria-label", "Item");
    const row = h("div.row", h("div.grow", field.element), button("", { icon: "close", quiet: true, label: "Remove", onclick: () => row.remove() }));
    row.read = field.read;
    rows.append(row);
    return field.element;
  };
  for (const each of Array.isArray(value) ? value : []) add(each);
  const element = h("div.stack", rows, h("div", button("Add", { icon: "plus", small: true, onclick: () => add(undefined).focus() })));
  return {
    kind: "list",
    element,
    read() {
      const made = [...rows.children].map((row) => row.read()).filter((each) => each !== undefined);
      return made.length || Array.isArray(value) ? made : undefined;
    },
  };
}

/** A field for JSON. `read` returns undefined when it is empty. */
export function json(schema, value, rows = 4) {
  const element = h("textarea.field.code", { rows, spellcheck: false, value: value === undefined || value === null ? "" : JSON.stringify(value, null, 2), placeholder: "JSON" });
  return {
    kind: "json",
    element,
    read() {
      if (!element.value.trim()) return undefined;
      try {
        return JSON.parse(element.value);
      } catch (error) {
        throw new Error(`This is no JSON: ${error.message.replace(/^.*?JSON\.parse: /, "")}`);
      }
    },
  };
}
