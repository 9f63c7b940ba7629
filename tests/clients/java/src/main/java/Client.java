import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.openai.client.OpenAIClient;
import com.openai.client.OpenAIClientImpl;
import com.openai.client.okhttp.OkHttpClient;
import com.openai.core.ClientOptions;
import com.openai.core.JsonValue;
import com.openai.core.http.HttpResponse;
import com.openai.errors.BadRequestException;
import com.openai.errors.NotFoundException;
import com.openai.errors.OpenAIServiceException;
import com.openai.errors.RateLimitException;
import com.openai.errors.UnexpectedStatusCodeException;
import com.openai.models.batches.Batch;
import com.openai.models.batches.BatchCreateParams;
import com.openai.models.batches.BatchListParams;
import com.openai.models.batches.BatchRequestCounts;
import com.openai.models.files.FileCreateParams;
import com.openai.models.files.FileListParams;
import com.openai.models.files.FileObject;
import com.openai.models.files.FilePurpose;
import com.openai.models.models.Model;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;

/**
 * The official Java client through the whole life of some batches: java Client BASE_URL INPUT.jsonl
 *
 * <p>It writes a line for each step, and stops at the first answer that differs from what it expects. The server has the
 * one model fake-model, takes three unfinished batches, and holds back all answers after those of the first three.
 */
public class Client {
    interface Action {
        void run() throws Exception;
    }

    final Path input;
    final List<JsonNode> questions;
    final OpenAIClient client;
    final AtomicInteger requests = new AtomicInteger();
    final List<String> files = new ArrayList<>();
    final List<String> batches = new ArrayList<>();
    final List<String> held = new ArrayList<>();

    Client(String baseUrl, Path input) throws IOException {
        this.input = input;
        this.questions = parse(Files.readString(input));
        OkHttpClient http = OkHttpClient.builder()
                .addInterceptor(chain -> {
                    requests.incrementAndGet();
                    return chain.proceed(chain.request());
                })
                .build();
        this.client = new OpenAIClientImpl(
                ClientOptions.builder().httpClient(http).baseUrl(baseUrl).apiKey("any").build());
    }

    public static void main(String[] arguments) throws Exception {
        Client test = new Client(arguments[0], Path.of(arguments[1]));
        step("list and retrieve models", test::models);
        step("upload a file and read it back", test::uploads);
        step("list files over pages, newest first", test::filePages);
        step("delete a file", test::deletion);
        step("an unknown batch and bad parameters are refused", test::refusals);
        step("create batches and page over them, each seen once", test::batchPages);
        step("poll to completed, and find every answer in the order of the input", test::outputs);
        step("a completed batch cannot be cancelled, which is not tried again", test::conflict);
        step("a full queue refuses the next batch", test::fullQueue);
        step("cancel a running batch and those behind it", test::cancel);
        test.client.close();
    }

    static void step(String name, Action action) throws Exception {
        try {
            action.run();
        } catch (Throwable failure) {
            System.out.println("FAILED  " + name);
            failure.printStackTrace();
            System.exit(1);
        }
        System.out.println("ok  " + name);
    }

    static void require(boolean condition, String otherwise) {
        if (!condition) throw new AssertionError(otherwise);
    }

    static void equal(String what, Object got, Object expected) {
        require(Objects.equals(got, expected), what + ": expected " + expected + ", got " + got);
    }

    static List<JsonNode> parse(String jsonl) throws IOException {
        ObjectMapper mapper = new ObjectMapper();
        List<JsonNode> lines = new ArrayList<>();
        for (String line : jsonl.split("\n")) lines.add(mapper.readTree(line));
        return lines;
    }

    static List<String> reversed(List<String> ids) {
        List<String> copy = new ArrayList<>(ids);
        Collections.reverse(copy);
        return copy;
    }

    /** The call must be refused with this kind of error, and must not have been tried again. */
    <E extends OpenAIServiceException> E refused(
            Action call, Class<E> kind, int status, String message, String type, String param, String code) {
        int before = requests.get();
        OpenAIServiceException error = null;
        try {
            call.run();
        } catch (OpenAIServiceException thrown) {
            error = thrown;
        } catch (Exception other) {
            throw new AssertionError("expected " + kind.getSimpleName(), other);
        }
        require(error != null, "expected " + kind.getSimpleName() + ", but the call succeeded");
        require(kind.isInstance(error), "expected " + kind.getSimpleName() + ", got " + error);
        equal("requests sent for the refused call", requests.get() - before, 1);
        equal("status", error.statusCode(), status);
        require(!error.headers().values("x-request-id").isEmpty(), "the error has no request id");
        require(error.getMessage().contains(message), "'" + error.getMessage() + "' does not say '" + message + "'");
        equal("type", error.type(), Optional.of(type));
        equal("param", error.param(), Optional.ofNullable(param));
        equal("code", error.code(), Optional.ofNullable(code));
        return kind.cast(error);
    }

    void notFound(Action call, String message, String param, String code) {
        refused(call, NotFoundException.class, 404, message, "invalid_request_error", param, code);
    }

    /** The ids on all pages, as the client walks them. */
    static <T> List<String> walk(Iterable<T> pager, Function<T, String> id) {
        List<String> ids = new ArrayList<>();
        for (T item : pager) ids.add(id.apply(item));
        return ids;
    }

    List<String> fileIds(FileListParams query) {
        return walk(client.files().list(query).autoPager(), FileObject::id);
    }

    List<String> batchIds(BatchListParams query) {
        return walk(client.batches().list(query).autoPager(), Batch::id);
    }

    FileObject upload() {
        return client.files().create(FileCreateParams.builder().file(input).purpose(FilePurpose.BATCH).build());
    }

    byte[] content(String fileId) throws IOException {
        try (HttpResponse response = client.files().content(fileId)) {
            return response.body().readAllBytes();
        }
    }

    static BatchCreateParams.Builder newBatch(String inputFileId) {
        return BatchCreateParams.builder()
                .inputFileId(inputFileId)
                .endpoint(BatchCreateParams.Endpoint.V1_CHAT_COMPLETIONS)
                .completionWindow(BatchCreateParams.CompletionWindow._24H);
    }

    Batch waitFor(String id, Batch.Status status) throws InterruptedException {
        long deadline = System.nanoTime() + 60_000_000_000L;
        while (true) {
            Batch batch = client.batches().retrieve(id).validate();
            if (batch.status().equals(status)) return batch;
            require(System.nanoTime() < deadline, id + " is still " + batch.status() + " after 60 s, not " + status);
            Thread.sleep(50);
        }
    }

    void models() {
        equal("models", walk(client.models().list().autoPager(), Model::id), List.of("fake-model"));
        equal("model", client.models().retrieve("fake-model").validate().id(), "fake-model");
        notFound(() -> client.models().retrieve("unknown"), "unknown", "model", "model_not_found");
    }

    void uploads() throws IOException {
        byte[] bytes = Files.readAllBytes(input);
        FileObject file = upload().validate();
        files.add(file.id());
        equal("filename", file.filename(), "input.jsonl");
        equal("purpose", file.purpose(), FileObject.Purpose.BATCH);
        equal("bytes", file.bytes(), (long) bytes.length);
        equal("retrieved file", client.files().retrieve(file.id()), file);
        require(Arrays.equals(content(file.id()), bytes), "the content differs from what was uploaded");
    }

    void filePages() {
        files.add(upload().id());
        files.add(upload().id());
        FileListParams byTwo = FileListParams.builder().limit(2).build();
        equal("files on the first page", client.files().list(byTwo).items().size(), 2);
        equal("has_more", client.files().list(byTwo).hasMore(), Optional.of(true));
        equal("files", fileIds(byTwo), reversed(files));
        FileListParams oldestFirst =
                FileListParams.builder().limit(2).order(FileListParams.Order.ASC).purpose("batch").build();
        equal("files, oldest first", fileIds(oldestFirst), files);
    }

    void deletion() {
        String id = files.remove(2);
        require(client.files().delete(id).validate().deleted(), "the file is not deleted");
        equal("files", fileIds(FileListParams.none()), reversed(files));
        List<Action> calls = List.of(
                () -> client.files().retrieve(id),
                () -> client.files().content(id).close(),
                () -> client.files().delete(id));
        for (Action call : calls) notFound(call, "No such File object: " + id, "id", null);
    }

    void refusals() {
        notFound(() -> client.batches().retrieve("batch_unknown"), "batch_unknown", null, null);
        notFound(() -> client.batches().cancel("batch_unknown"), "batch_unknown", null, null);
        BatchCreateParams badEndpoint =
                newBatch(files.get(0)).endpoint(BatchCreateParams.Endpoint.of("/v1/nonsense")).build();
        refused(() -> client.batches().create(badEndpoint), BadRequestException.class, 400,
                "Invalid value: '/v1/nonsense'. Supported values are: ", "invalid_request_error", "endpoint",
                "invalid_value");
        refused(() -> client.batches().create(newBatch("file-unknown").build()), BadRequestException.class, 400,
                "file-unknown", "invalid_request_error", "input_file_id", "invalid_value");
        equal("batches", batchIds(BatchListParams.none()), List.of());
    }

    void batchPages() {
        for (int n = 0; n < 3; n++) {
            Map<String, JsonValue> metadata =
                    Map.of("owner", JsonValue.from("ünïcode 😀"), "number", JsonValue.from(String.valueOf(n)));
            Batch batch = client.batches()
                    .create(newBatch(files.get(0))
                            .metadata(BatchCreateParams.Metadata.builder()
                                    .additionalProperties(metadata)
                                    .build())
                            .build())
                    .validate();
            batches.add(batch.id());
            equal("status", batch.status(), Batch.Status.VALIDATING);
            equal("endpoint", batch.endpoint(), "/v1/chat/completions");
            equal("input file", batch.inputFileId(), files.get(0));
            equal("expires_at", batch.expiresAt(), Optional.of(batch.createdAt() + 24 * 60 * 60));
            equal("metadata", batch.metadata().orElseThrow()._additionalProperties(), metadata);
        }
        BatchListParams byTwo = BatchListParams.builder().limit(2).build();
        equal("batches on the first page", client.batches().list(byTwo).items().size(), 2);
        equal("has_more", client.batches().list(byTwo).hasMore(), Optional.of(true));
        equal("batches", batchIds(byTwo), reversed(batches));
    }

    void outputs() throws Exception {
        long total = questions.size();
        for (String id : batches) {
            Batch batch = waitFor(id, Batch.Status.COMPLETED);
            BatchRequestCounts counts = batch.requestCounts().orElseThrow();
            equal("counts", List.of(counts.total(), counts.completed(), counts.failed()), List.of(total, total, 0L));
            equal("error file", batch.errorFileId(), Optional.empty());
            equal("errors", batch.errors(), Optional.empty());
            equal("model", batch.model(), Optional.of("fake-model"));
            equal("tokens", batch.usage().orElseThrow().totalTokens(), 5 * total);
            long began = batch.inProgressAt().orElseThrow();
            require(batch.createdAt() <= began && began <= batch.completedAt().orElseThrow(),
                    "the times are out of order: " + batch);

            FileObject output = client.files().retrieve(batch.outputFileId().orElseThrow()).validate();
            equal("purpose", output.purpose(), FileObject.Purpose.BATCH_OUTPUT);
            List<JsonNode> answers = parse(new String(content(output.id()), StandardCharsets.UTF_8));
            equal("output lines", answers.size(), questions.size());
            for (int i = 0; i < answers.size(); i++) {
                JsonNode question = questions.get(i), answer = answers.get(i);
                equal("custom_id", answer.get("custom_id"), question.get("custom_id"));
                equal("status code", answer.at("/response/status_code").asInt(), 200);
                require(answer.get("error").isNull(), "the line has an error: " + answer);
                equal("answer", answer.at("/response/body/choices/0/message/content").asText(),
                        "You said: " + question.at("/body/messages/0/content").asText());
            }
        }
    }

    void conflict() {
        // The Java client has no exception of its own for 409.
        UnexpectedStatusCodeException error =
                refused(() -> client.batches().cancel(batches.get(0)), UnexpectedStatusCodeException.class, 409,
                        "Cannot cancel a batch with status 'completed'.", "invalid_request_error", null, null);
        equal("x-should-retry", error.headers().values("x-should-retry"), List.of("false"));
    }

    void fullQueue() {
        for (int n = 0; n < 3; n++) held.add(client.batches().create(newBatch(files.get(0)).build()).id());
        OpenAIClient once = client.withOptions(options -> options.maxRetries(0));
        RateLimitException error =
                refused(() -> once.batches().create(newBatch(files.get(0)).build()), RateLimitException.class, 429,
                        "Queue full (3/3 jobs). Try again later.", "rate_limit_error", null, "queue_full");
        int seconds = Integer.parseInt(error.headers().values("retry-after").get(0));
        require(1 <= seconds && seconds <= 30, "retry-after: " + seconds);
    }

    void cancel() throws Exception {
        waitFor(held.get(0), Batch.Status.IN_PROGRESS);
        for (String id : held) {
            Batch batch = client.batches().cancel(id).validate();
            require(List.of(Batch.Status.CANCELLING, Batch.Status.CANCELLED).contains(batch.status()),
                    "the status is " + batch.status());
            require(batch.cancellingAt().isPresent(), "there is no cancelling_at: " + batch);
        }
        for (String id : held) {
            Batch batch = waitFor(id, Batch.Status.CANCELLED);
            require(batch.cancelledAt().orElseThrow() >= batch.cancellingAt().orElseThrow(),
                    "cancelled before it was asked for: " + batch);
            equal("completed_at", batch.completedAt(), Optional.empty());
            equal("status", client.batches().cancel(id).status(), Batch.Status.CANCELLED);
        }
    }
}
