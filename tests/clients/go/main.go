// The official Go client through the whole life of some batches: client BASE_URL INPUT.jsonl
// It writes a line for each step, and stops at the first answer that differs from what it expects. The server has the
// one model fake-model, takes three unfinished batches, and holds back all answers after those of the first three.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

type question struct {
	CustomID string `json:"custom_id"`
	Body     struct {
		Messages []struct{ Content string }
	}
}

type answer struct {
	CustomID string `json:"custom_id"`
	Response struct {
		StatusCode int `json:"status_code"`
		Body       openai.ChatCompletion
	}
	Error any
}

// It counts what goes over the wire, to which the client's own retries belong.
type countingTransport struct{ requests int }

func (t *countingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	t.requests++
	return http.DefaultTransport.RoundTrip(request)
}

var (
	ctx       = context.Background()
	transport = &countingTransport{}
	client    openai.Client
	input     string
	step      string
)

func fail(format string, arguments ...any) {
	fmt.Printf("FAILED  %s\n", step)
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

func require(condition bool, format string, arguments ...any) {
	if !condition {
		fail(format, arguments...)
	}
}

func equal(what string, got, expected any) {
	require(reflect.DeepEqual(got, expected), "%s: expected %#v, got %#v", what, expected, got)
}

// must gives the value of a call that has to succeed.
func must[T any](value T, err error) T {
	if err != nil {
		fail("expected success, got %v%s", err, details(err))
	}
	return value
}

func details(err error) string {
	if refusal := (*openai.Error)(nil); errors.As(err, &refusal) {
		return ": " + refusal.RawJSON()
	}
	return ""
}

type refusal struct {
	status                     int
	message, param, code, kind string
}

// refused checks that the call was refused as expected and was not tried again.
func refused(call func() error, expected refusal) *openai.Error {
	before := transport.requests
	err := call()
	var got *openai.Error
	require(errors.As(err, &got), "expected status %d, got %v", expected.status, err)
	equal("requests sent for the refused call", transport.requests-before, 1)
	require(got.Response.Header.Get("x-request-id") != "", "the error has no request id")
	require(strings.Contains(got.Message, expected.message), "'%s' does not say '%s'", got.Message, expected.message)
	if expected.kind == "" {
		expected.kind = "invalid_request_error"
	}
	equal("refusal", refusal{got.StatusCode, expected.message, got.Param, got.Code, got.Type}, expected)
	return got
}

func parse[T any](jsonl []byte) []T {
	var lines []T
	for line := range bytes.Lines(jsonl) {
		var one T
		if err := json.Unmarshal(line, &one); err != nil {
			fail("%v in %s", err, line)
		}
		lines = append(lines, one)
	}
	return lines
}

func reversed(ids []string) []string {
	ids = slices.Clone(ids)
	slices.Reverse(ids)
	return ids
}

// pager is what the client's walks over the pages of all kinds have in common.
type pager[T any] interface {
	Next() bool
	Current() T
	Err() error
}

func walk[T any](pager pager[T], id func(T) string) []string {
	ids := []string{}
	for pager.Next() {
		ids = append(ids, id(pager.Current()))
	}
	must(0, pager.Err())
	return ids
}

func fileIDs(query openai.FileListParams) []string {
	return walk(client.Files.ListAutoPaging(ctx, query), func(f openai.FileObject) string { return f.ID })
}

func batchIDs(query openai.BatchListParams) []string {
	return walk(client.Batches.ListAutoPaging(ctx, query), func(b openai.Batch) string { return b.ID })
}

func upload() *openai.FileObject {
	file := must(os.Open(input))
	defer file.Close()
	return must(client.Files.New(ctx, openai.FileNewParams{File: file, Purpose: openai.FilePurposeBatch}))
}

func content(id string) []byte {
	response := must(client.Files.Content(ctx, id))
	defer response.Body.Close()
	return must(io.ReadAll(response.Body))
}

func newBatch(inputFileID string) openai.BatchNewParams {
	return openai.BatchNewParams{
		InputFileID:      inputFileID,
		Endpoint:         openai.BatchNewParamsEndpointV1ChatCompletions,
		CompletionWindow: openai.BatchNewParamsCompletionWindow24h,
	}
}

func waitFor(id string, status openai.BatchStatus) *openai.Batch {
	deadline := time.Now().Add(time.Minute)
	for {
		batch := must(client.Batches.Get(ctx, id))
		if batch.Status == status {
			return batch
		}
		require(time.Now().Before(deadline), "%s is still %s after a minute, not %s", id, batch.Status, status)
		time.Sleep(50 * time.Millisecond)
	}
}

func main() {
	step = "read the arguments"
	require(len(os.Args) == 3, "usage: client BASE_URL INPUT.jsonl")
	input = os.Args[2]
	bytesOfInput := must(os.ReadFile(input))
	questions := parse[question](bytesOfInput)
	client = openai.NewClient(
		option.WithBaseURL(os.Args[1]), option.WithAPIKey("any"), option.WithHTTPClient(&http.Client{Transport: transport}))

	step = "list and retrieve models"
	models := walk(client.Models.ListAutoPaging(ctx), func(m openai.Model) string { return m.ID })
	equal("models", models, []string{"fake-model"})
	equal("model", must(client.Models.Get(ctx, "fake-model")).ID, "fake-model")
	refused(func() error { _, err := client.Models.Get(ctx, "unknown"); return err },
		refusal{status: 404, message: "unknown", param: "model", code: "model_not_found"})
	fmt.Println("ok ", step)

	step = "upload a file and read it back"
	file := upload()
	files := []string{file.ID}
	equal("filename", file.Filename, "input.jsonl")
	equal("purpose", file.Purpose, openai.FileObjectPurposeBatch)
	equal("bytes", file.Bytes, int64(len(bytesOfInput)))
	equal("status", file.Status, openai.FileObjectStatusProcessed) // deprecated, but clients wait for it
	equal("retrieved file", must(client.Files.Get(ctx, file.ID)).RawJSON(), file.RawJSON())
	equal("content", string(content(file.ID)), string(bytesOfInput))
	fmt.Println("ok ", step)

	step = "list files over pages, newest first"
	files = append(files, upload().ID, upload().ID)
	filePage := must(client.Files.List(ctx, openai.FileListParams{Limit: openai.Int(2)}))
	equal("files on the first page", len(filePage.Data), 2)
	equal("has_more", filePage.HasMore, true)
	equal("files", fileIDs(openai.FileListParams{Limit: openai.Int(2)}), reversed(files))
	equal("files, oldest first", fileIDs(openai.FileListParams{
		Limit: openai.Int(2), Order: openai.FileListParamsOrderAsc, Purpose: openai.String("batch")}), files)
	fmt.Println("ok ", step)

	step = "delete a file"
	id := files[2]
	files = files[:2]
	deleted := must(client.Files.Delete(ctx, id))
	equal("deleted", []any{deleted.ID, deleted.Deleted}, []any{id, true})
	equal("files", fileIDs(openai.FileListParams{}), reversed(files))
	for _, call := range []func() error{
		func() error { _, err := client.Files.Get(ctx, id); return err },
		func() error { _, err := client.Files.Content(ctx, id); return err },
		func() error { _, err := client.Files.Delete(ctx, id); return err },
	} {
		refused(call, refusal{status: 404, message: "No such File object: " + id, param: "id"})
	}
	fmt.Println("ok ", step)

	step = "an unknown batch and bad parameters are refused"
	create := func(params openai.BatchNewParams, options ...option.RequestOption) func() error {
		return func() error { _, err := client.Batches.New(ctx, params, options...); return err }
	}
	refused(func() error { _, err := client.Batches.Get(ctx, "batch_unknown"); return err },
		refusal{status: 404, message: "batch_unknown"})
	refused(func() error { _, err := client.Batches.Cancel(ctx, "batch_unknown"); return err },
		refusal{status: 404, message: "batch_unknown"})
	badEndpoint := newBatch(files[0])
	badEndpoint.Endpoint = "/v1/nonsense"
	refused(create(badEndpoint), refusal{status: 400, param: "endpoint", code: "invalid_value",
		message: "Invalid value: '/v1/nonsense'. Supported values are: "})
	refused(create(newBatch("file-unknown")),
		refusal{status: 400, message: "file-unknown", param: "input_file_id", code: "invalid_value"})
	equal("batches", batchIDs(openai.BatchListParams{}), []string{})
	fmt.Println("ok ", step)

	step = "create batches and page over them, each seen once"
	batches := []string{}
	for n := range 3 {
		params := newBatch(files[0])
		params.Metadata = map[string]string{"owner": "ünïcode 😀", "number": strconv.Itoa(n)}
		batch := must(client.Batches.New(ctx, params))
		batches = append(batches, batch.ID)
		equal("status", batch.Status, openai.BatchStatusValidating)
		equal("endpoint", batch.Endpoint, "/v1/chat/completions")
		equal("input file", batch.InputFileID, files[0])
		equal("expires_at", batch.ExpiresAt, batch.CreatedAt+24*60*60)
		equal("metadata", batch.Metadata, params.Metadata)
	}
	batchPage := must(client.Batches.List(ctx, openai.BatchListParams{Limit: openai.Int(2)}))
	equal("batches on the first page", len(batchPage.Data), 2)
	equal("has_more", batchPage.HasMore, true)
	equal("batches", batchIDs(openai.BatchListParams{Limit: openai.Int(2)}), reversed(batches))
	fmt.Println("ok ", step)

	step = "poll to completed, and find every answer in the order of the input"
	total := int64(len(questions))
	for _, id := range batches {
		batch := waitFor(id, openai.BatchStatusCompleted)
		counts := batch.RequestCounts
		equal("counts", []int64{counts.Total, counts.Completed, counts.Failed}, []int64{total, total, 0})
		equal("error file", batch.ErrorFileID, "")
		require(!batch.JSON.Errors.Valid(), "the batch has errors: %s", batch.Errors.RawJSON())
		equal("model", batch.Model, "fake-model")
		equal("tokens", batch.Usage.TotalTokens, 5*total)
		require(batch.CreatedAt <= batch.InProgressAt && batch.InProgressAt <= batch.CompletedAt,
			"the times are out of order: %s", batch.RawJSON())

		output := must(client.Files.Get(ctx, batch.OutputFileID))
		equal("purpose", output.Purpose, openai.FileObjectPurposeBatchOutput)
		answers := parse[answer](content(output.ID))
		equal("output lines", len(answers), len(questions))
		for i, question := range questions {
			equal("custom_id", answers[i].CustomID, question.CustomID)
			equal("status code", answers[i].Response.StatusCode, 200)
			equal("error", answers[i].Error, nil)
			equal("answer", answers[i].Response.Body.Choices[0].Message.Content,
				"You said: "+question.Body.Messages[0].Content)
		}
	}
	fmt.Println("ok ", step)

	step = "a completed batch cannot be cancelled, which is not tried again"
	conflict := refused(func() error { _, err := client.Batches.Cancel(ctx, batches[0]); return err },
		refusal{status: 409, message: "Cannot cancel a batch with status 'completed'."})
	equal("x-should-retry", conflict.Response.Header.Get("x-should-retry"), "false")
	fmt.Println("ok ", step)

	step = "a full queue refuses the next batch"
	held := []string{}
	for range 3 {
		held = append(held, must(client.Batches.New(ctx, newBatch(files[0]))).ID)
	}
	full := refused(create(newBatch(files[0]), option.WithMaxRetries(0)), refusal{status: 429,
		message: "Queue full (3/3 jobs). Try again later.", kind: "rate_limit_error", code: "queue_full"})
	seconds := must(strconv.Atoi(full.Response.Header.Get("retry-after")))
	require(seconds >= 1 && seconds <= 30, "retry-after: %d", seconds)
	fmt.Println("ok ", step)

	step = "cancel a running batch and those behind it"
	waitFor(held[0], openai.BatchStatusInProgress)
	for _, id := range held {
		batch := must(client.Batches.Cancel(ctx, id))
		require(batch.Status == openai.BatchStatusCancelling || batch.Status == openai.BatchStatusCancelled,
			"the status is %s", batch.Status)
		require(batch.CancellingAt > 0, "there is no cancelling_at: %s", batch.RawJSON())
	}
	for _, id := range held {
		batch := waitFor(id, openai.BatchStatusCancelled)
		require(batch.CancelledAt >= batch.CancellingAt, "cancelled before it was asked for: %s", batch.RawJSON())
		equal("completed_at", batch.CompletedAt, int64(0))
		equal("status", must(client.Batches.Cancel(ctx, id)).Status, openai.BatchStatusCancelled)
	}
	fmt.Println("ok ", step)
}
