import { setQuery } from "../router";

/** The option of no choice. */
export const kAll = ["", "All"] as const;

/** A choice that stands in the query of the place, as `name`; `options`: value and text of each. */
export function QuerySelect({
  label,
  name,
  value,
  options,
  layout = "field",
}: {
  label: string;
  name: string;
  value: string;
  options: readonly (readonly [value: string, text: string])[];
  layout?: "field" | "row";
}) {
  return (
    <label class={layout}>
      {label}
      <select value={value} onChange={(event) => setQuery({ [name]: event.currentTarget.value })}>
        {options.map(([one, text]) => (
          <option key={one} value={one}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}
