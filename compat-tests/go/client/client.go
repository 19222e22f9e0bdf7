// Package client is the command line that every Go client is driven by, and the JSON lines it says.
//
// The tests know nothing of the libraries behind it: see harness/foreign.py for the contract.
package client

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// Session and Heartbeat are short, so that a killed member is missed soon.
const (
	Session   = 6 * time.Second
	Heartbeat = 500 * time.Millisecond
)

// Client is what a library can do, each in its own words.
type Client interface {
	// Write sends every line as one record, and says Acked for each in any order.
	Write(kafka, topic, codec string, lines <-chan string) error
	// Read says Read for the first `count` records of the topic, without a group.
	Read(kafka, topic string, count int) error
	// Join reads and commits as a member of a group until `leave` is closed, then leaves it.
	Join(kafka, group, name string, topics []string, leave <-chan struct{}) error
	// Admin does one round trip of each thing an admin tool does, and says a Step for each.
	Admin(kafka, topic, group string) error
}

var (
	mutex  sync.Mutex
	output = json.NewEncoder(os.Stdout)
)

func say(event map[string]any) {
	mutex.Lock()
	defer mutex.Unlock()
	if err := output.Encode(event); err != nil {
		os.Exit(3) // nobody listens any more
	}
}

// Acked says that the broker has acknowledged a record.
func Acked(value string, offset int64) {
	say(map[string]any{"event": "acked", "value": value, "offset": offset})
}

// Refused says that a record was given up.
func Refused(value string, err error) {
	say(map[string]any{"event": "refused", "value": value, "error": err.Error()})
}

// Read says that a record has come.
func Read(topic string, offset int64, value string) {
	say(map[string]any{"event": "read", "topic": topic, "offset": offset, "value": value})
}

// Step says what an admin request found.
func Step(name string, found any) {
	say(map[string]any{"event": "step", "name": name, "found": found})
}

// Note says what may happen and be put right, for whoever reads the log of a failed test.
func Note(err error) {
	fmt.Fprintln(os.Stderr, err)
}

// Notef is Note for libraries that format.
func Notef(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
}

// Main runs the command that the arguments name, and ends the process.
func Main(client Client) {
	if err := run(client, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(client Client, args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("write|read|join|admin KAFKA …, not %q", args)
	}
	command, kafka, rest := args[0], args[1], args[2:]
	switch {
	case command == "write" && len(rest) == 2:
		return client.Write(kafka, rest[0], rest[1], lines())
	case command == "read" && len(rest) == 2:
		count, err := strconv.Atoi(rest[1])
		if err != nil {
			return err
		}
		return client.Read(kafka, rest[0], count)
	case command == "join" && len(rest) > 2:
		return client.Join(kafka, rest[0], rest[1], rest[2:], endOfInput())
	case command == "admin" && len(rest) == 2:
		return client.Admin(kafka, rest[0], rest[1])
	}
	return fmt.Errorf("nobody knows %q", args)
}

func lines() <-chan string {
	out := make(chan string)
	go func() {
		defer close(out)
		for scanner := bufio.NewScanner(os.Stdin); scanner.Scan(); {
			out <- scanner.Text()
		}
	}()
	return out
}

func endOfInput() <-chan struct{} {
	end := make(chan struct{})
	go func() {
		defer close(end)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return end
}
