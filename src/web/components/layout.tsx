import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { connection } from "../events";
import { kGroups, kPages } from "../pages/registry";
import { useRoute } from "../router";
import { forget, key, lock, may, usePrincipal } from "../session";
import { nextTheme, theme } from "../theme";
import { useNow } from "./time";

function ConnectionStatus() {
  const now = connection.use();
  const time = useNow();
  if (now.state === "off") return null;
  const text = { live: "Live", connecting: "Connecting…", waiting: "" }[now.state];
  return (
    <span class={`connection ${now.state}`}>
      <span role="status">{now.state === "waiting" ? "Not connected" : text}</span>
      {now.state === "waiting" && ` – again in ${Math.max(0, Math.round(now.until / 1000 - time))} s`}
    </span>
  );
}

function Navigation() {
  const principal = usePrincipal();
  const here = useRoute().path[0] ?? kPages[0]!.path;
  return (
    <nav aria-label="Pages">
      {kGroups.map((group) => {
        const pages = kPages.filter((page) => page.group === group && may(principal, page.needs));
        if (pages.length === 0) return null;
        return (
          <section key={group}>
            <h2>{group}</h2>
            <ul>
              {pages.map(({ path, title, also }) => (
                <li key={path}>
                  <a href={`#/${path}`} aria-current={path === here || also?.includes(here) ? "page" : undefined}>
                    {title}
                  </a>
                </li>
              ))}
            </ul>
          </section>
        );
      })}
    </nav>
  );
}

function SignOut() {
  if (key() === null) return null;
  const leave = () => {
    forget();
    lock(null);
  };
  return (
    <button type="button" class="small" onClick={leave}>
      Sign out
    </button>
  );
}

/** The frame around every page. */
export function Layout({ children }: { children: ComponentChildren }) {
  const principal = usePrincipal();
  const { path } = useRoute();
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  const [isMenuOpen, setMenuOpen] = useState(false);
  // Who goes to another page, with whatever device, is at its beginning.
  const place = path.slice(0, 2).join("/");
  useEffect(() => {
    setMenuOpen(false);
    if (!isFirst.current) {
      main.current?.focus();
      scrollTo(0, 0);
    }
    isFirst.current = false;
  }, [place]);
  const skip = (event: Event) => {
    event.preventDefault(); // the place after the # is the router's
    main.current?.focus();
  };
  const colours = { system: "Auto", light: "Light", dark: "Dark" }[theme.use()];
  return (
    <div class="layout">
      <a class="skip" href="#main" onClick={skip}>
        Skip to the page
      </a>
      <header class="top">
        <a class="brand" href="#/">
          <img src="favicon.svg" alt="" width="24" height="24" />
          Penstock
        </a>
        <button
          type="button"
          class="small menu"
          aria-expanded={isMenuOpen}
          aria-controls="navigation"
          onClick={() => setMenuOpen(!isMenuOpen)}
        >
          Menu
        </button>
        <span class="spacer" />
        <ConnectionStatus />
        <span class="project" title={principal.project_id}>
          {principal.project_name}
        </span>
        <button type="button" class="small" aria-label={`Colours: ${colours}`} onClick={nextTheme}>
          {colours}
        </button>
        <SignOut />
      </header>
      <div id="navigation" class={isMenuOpen ? "side open" : "side"}>
        <Navigation />
        <footer class="version">Penstock {principal.server.version}</footer>
      </div>
      <main ref={main} id="main" tabIndex={-1}>
        {children}
      </main>
    </div>
  );
}

/** The beginning of a page: its heading, and what can be done there. */
export function Heading({ title, note, children }: { title: ComponentChildren; note?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <div class="heading">
      <div>
        <h1>{title}</h1>
        {note && <p class="faint">{note}</p>}
      </div>
      {children && <div class="row">{children}</div>}
    </div>
  );
}
