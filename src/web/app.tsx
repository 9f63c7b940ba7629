import { useEffect } from "preact/hooks";
import { ApiError, whoami } from "./api";
import { Empty, Failure, Loading } from "./components/empty";
import { Layout } from "./components/layout";
import { Toasts } from "./components/toast";
import { messageOf } from "./format";
import { LoginPage } from "./pages/login";
import { kPages } from "./pages/registry";
import { useRoute } from "./router";
import { may, session, usePrincipal } from "./session";

/** Asks the server who we are, with the key that there is. */
export async function enter(): Promise<void> {
  try {
    session.set({ state: "open", principal: await whoami() });
  } catch (failure) {
    // A key that is refused has locked the session already.
    if (failure instanceof ApiError && failure.status === 401) return;
    session.set({ state: "unreachable", why: messageOf(failure) });
  }
}

function CurrentPage() {
  const principal = usePrincipal();
  const [path] = useRoute().path;
  const first = kPages.find(({ needs }) => may(principal, needs)) ?? kPages[0];
  const page = path === undefined ? first : kPages.find((one) => one.path === path);
  if (!page) return <Empty title="There is no such page">Choose another one from the menu.</Empty>;
  if (!may(principal, page.needs)) {
    return <Empty title="Your key does not open this page">It needs the scope “{page.needs}”. Ask whoever made the key.</Empty>;
  }
  return <page.component />;
}

export function App() {
  const now = session.use();
  useEffect(() => void enter(), []);
  return (
    <>
      {now.state === "unknown" && <Loading />}
      {now.state === "unreachable" && <Failure message={now.why} retry={enter} />}
      {now.state === "locked" && <LoginPage why={now.why} onKey={enter} />}
      {now.state === "open" && (
        <Layout>
          <CurrentPage />
        </Layout>
      )}
      <Toasts />
    </>
  );
}
