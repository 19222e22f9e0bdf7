// Every version of every API that a broker lists, asked and understood with kmsg.
//
//	everyversion KAFKA
//
// For each it sends a request that means something, reads the answer, writes it anew and compares:
// nothing may be left over or lost. Then it looks at the fields. It says one JSON line for each, with
// an error where something is wrong.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const wait = 30 * time.Second

type broker struct {
	net.Conn
	address string
	count   int32
}

// scenario asks one API in one version. It panics with what is wrong.
type scenario func(b *broker, version int16)

var scenarios = map[kmsg.Key]scenario{}

func main() {
	b := connect(os.Args[1])
	listed := ask(b, 0, kmsg.NewPtrApiVersionsRequest()).(*kmsg.ApiVersionsResponse)
	output := json.NewEncoder(os.Stdout)
	for _, api := range listed.ApiKeys {
		key := kmsg.Key(api.ApiKey)
		lowest := api.MinVersion
		if key == kmsg.Produce {
			lowest = 3 // Kafka lists 0 for the sake of old clients, and serves from 3 (KAFKA-18659)
		}
		for version := lowest; version <= api.MaxVersion; version++ {
			said := map[string]any{"key": key, "version": version}
			if err := try(scenarios[key], b, version); err != nil {
				said["error"] = err.Error()
				b.Close()
				b = connect(b.address)
			}
			if err := output.Encode(said); err != nil {
				os.Exit(3)
			}
		}
	}
}

func connect(address string) *broker {
	connection, err := net.DialTimeout("tcp", address, wait)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return &broker{Conn: connection, address: address}
}

func try(ask scenario, b *broker, version int16) (err error) {
	defer func() {
		if found := recover(); found != nil {
			err = fmt.Errorf("%v", found)
		}
	}()
	if ask == nil {
		panic("it is listed, and nobody here knows how to ask it")
	}
	ask(b, version)
	return nil
}

// must panics with what was to be where it is not.
func must(holds bool, what string, found any) {
	if !holds {
		panic(fmt.Sprintf("%s, not %+v", what, found))
	}
}

// ask sends one request and returns the answer, read whole.
func ask(b *broker, version int16, request kmsg.Request) kmsg.Response {
	request.SetVersion(version)
	b.count++
	formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID("everyversion"))
	must(b.SetDeadline(time.Now().Add(wait)) == nil, "a connection", b.address)
	_, err := b.Write(formatter.AppendRequest(nil, request, b.count))
	must(err == nil, "a request that is sent", err)
	var size [4]byte
	_, err = io.ReadFull(b, size[:])
	must(err == nil, "an answer", err)
	answer := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err = io.ReadFull(b, answer)
	must(err == nil, "a whole answer", err)
	must(int32(binary.BigEndian.Uint32(answer)) == b.count, "an answer to this request", answer[:4])
	body := answer[4:]
	response := request.ResponseKind()
	if response.IsFlexible() && kmsg.Key(request.Key()) != kmsg.ApiVersions {
		must(body[0] == 0, "a header without tagged fields", body[0])
		body = body[1:]
	}
	err = response.ReadFrom(body)
	must(err == nil, "an answer that can be read", err)
	again := response.AppendTo(nil)
	must(bytes.Equal(again, body), fmt.Sprintf("% x", again), fmt.Sprintf("% x of %+v", body, response))
	return response
}

// fine panics where an error code is not 0.
func fine(code int16, text *string) {
	if code != 0 {
		said := ""
		if text != nil {
			said = *text
		}
		panic(fmt.Sprintf("error %d %s", code, said))
	}
}

func name(what string, version int16) string { return fmt.Sprintf("every-%s-%d", what, version) }

func text(value string) *string { return &value }
