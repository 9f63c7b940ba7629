import { Loading } from "../components/empty";
export function QueuePage() { return <Loading />; }
