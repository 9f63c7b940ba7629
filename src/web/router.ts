import { useEffect } from "preact/hooks";
import { type Query, withQuery } from "./api";
import { Store } from "./store";

/** Where the page is, after the #: #/batches/batch_1/lines?status=failed. */
export interface Route {
  path: string[];
  query: URLSearchParams;
}

function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

const route = new Store<Route>(parse(location.hash));
addEventListener("hashchange", () => route.set(parse(location.hash)));

export const useRoute = () => route.use();

export function href(path: string, query?: Query): string {
  return withQuery(`#/${path}`, query);
}

export function navigate(path: string, query?: Query): void {
  location.hash = href(path, query);
}

/** Says the same place with other parameters, which going back leaves out. */
export function setQuery(changes: Query): void {
  const { path, query } = parse(location.hash);
  history.replaceState(null, "", href(path.map(encodeURIComponent).join("/"), { ...Object.fromEntries(query), ...changes }));
  route.set(parse(location.hash));
}

/** The document's title while the page stands. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · Penstock`;
  }, [title]);
}
