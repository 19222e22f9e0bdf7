package main

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func init() {
	scenarios[kmsg.Produce] = func(b *broker, version int16) { produce(b, version, topicOf(b, name("produce", version))) }
	scenarios[kmsg.Fetch] = fetch
	scenarios[kmsg.ListOffsets] = listOffsets
	scenarios[kmsg.Metadata] = metadata
	scenarios[kmsg.InitProducerID] = initProducerID
	scenarios[kmsg.OffsetForLeaderEpoch] = offsetForLeaderEpoch
	scenarios[kmsg.DeleteRecords] = deleteRecords
	scenarios[kmsg.ApiVersions] = apiVersions
}

// batch is one record with the value "hello".
func batch() []byte {
	record := []byte{0, 0, 0, 1, 2 * 5, 'h', 'e', 'l', 'l', 'o', 0}
	found := kmsg.RecordBatch{
		Magic: 2, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1,
		FirstTimestamp: 1, MaxTimestamp: 1, Records: append([]byte{byte(2 * len(record))}, record...),
	}
	data := found.AppendTo(nil)
	binary.BigEndian.PutUint32(data[8:], uint32(len(data)-12))
	binary.BigEndian.PutUint32(data[17:], crc32.Checksum(data[21:], crc32.MakeTable(crc32.Castagnoli)))
	return data
}

// topicOf makes a topic and returns its name. It panics where it cannot.
func topicOf(b *broker, topic string) string {
	createTopic(b, 7, topic)
	return topic
}

// filled is a topic with `count` records.
func filled(b *broker, topic string, count int) string {
	topicOf(b, topic)
	for range count {
		produce(b, 9, topic)
	}
	return topic
}

func idOf(b *broker, topic string) [16]byte {
	return lookUp(b, 12, topic).Topics[0].TopicID
}

func produce(b *broker, version int16, topic string) {
	partition := kmsg.NewProduceRequestTopicPartition()
	partition.Records = batch()
	wanted := kmsg.NewProduceRequestTopic()
	wanted.Topic, wanted.Partitions = topic, append(wanted.Partitions, partition)
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis, request.Topics = -1, 30_000, append(request.Topics, wanted)
	response := ask(b, version, request).(*kmsg.ProduceResponse)
	must(response.Topics[0].Topic == topic, "the topic", response)
	found := response.Topics[0].Partitions[0]
	fine(found.ErrorCode, found.ErrorMessage)
	must(found.BaseOffset >= 0 && found.LogAppendTime == -1, "an offset and no time", found)
	must(version < 5 || found.LogStartOffset == 0, "the start of the log", found)
}

func fetch(b *broker, version int16) {
	topic := filled(b, name("fetch", version), 2)
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.FetchOffset, partition.PartitionMaxBytes = 1, 1<<20
	wanted := kmsg.NewFetchRequestTopic()
	wanted.Topic, wanted.Partitions = topic, append(wanted.Partitions, partition)
	if version >= 13 {
		wanted.TopicID = idOf(b, topic)
	}
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = 1000, 1, 1<<20
	request.SessionEpoch, request.Topics = -1, append(request.Topics, wanted)
	response := ask(b, version, request).(*kmsg.FetchResponse)
	fine(response.ErrorCode, nil)
	must(len(response.Topics) == 1, "one topic", response)
	must(version >= 13 || response.Topics[0].Topic == topic, "its name", response)
	must(version < 13 || response.Topics[0].TopicID == wanted.TopicID, "its id", response)
	found := response.Topics[0].Partitions[0]
	fine(found.ErrorCode, nil)
	must(found.HighWatermark == 2 && found.LastStableOffset == 2, "both ends at 2", found)
	must(len(found.RecordBatches) == len(batch()), "one batch", found)
	var read kmsg.RecordBatch
	must(read.ReadFrom(found.RecordBatches) == nil && read.FirstOffset == 1, "offset 1", read)
}

func listOffsets(b *broker, version int16) {
	topic := filled(b, name("list-offsets", version), 2)
	for timestamp, offset := range map[int64]int64{-1: 2, -2: 0, 0: 0} {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Timestamp = timestamp
		wanted := kmsg.NewListOffsetsRequestTopic()
		wanted.Topic, wanted.Partitions = topic, append(wanted.Partitions, partition)
		request := kmsg.NewPtrListOffsetsRequest()
		request.Topics = append(request.Topics, wanted)
		response := ask(b, version, request).(*kmsg.ListOffsetsResponse)
		found := response.Topics[0].Partitions[0]
		fine(found.ErrorCode, nil)
		must(found.Offset == offset, "the offset", found)
	}
}

func lookUp(b *broker, version int16, topic string) *kmsg.MetadataResponse {
	wanted := kmsg.NewMetadataRequestTopic()
	wanted.Topic = text(topic)
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = append(request.Topics, wanted)
	response := ask(b, version, request).(*kmsg.MetadataResponse)
	fine(response.Topics[0].ErrorCode, nil)
	return response
}

func metadata(b *broker, version int16) {
	topic := topicOf(b, name("metadata", version))
	found := lookUp(b, version, topic)
	must(len(found.Brokers) > 0 && found.Brokers[0].Port > 0, "a broker", found)
	must(version < 2 || *found.ClusterID != "", "an id of the cluster", found)
	must(*found.Topics[0].Topic == topic, "the topic", found)
	must(version < 10 || found.Topics[0].TopicID != [16]byte{}, "an id of the topic", found)
	must(len(found.Topics[0].Partitions) == 1, "one partition", found)
	partition := found.Topics[0].Partitions[0]
	fine(partition.ErrorCode, nil)
	must(partition.Leader == found.Brokers[0].NodeID && len(partition.ISR) == 1, "a leader", found)
}

func initProducerID(b *broker, version int16) {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionTimeoutMillis, request.ProducerID, request.ProducerEpoch = 60_000, -1, -1
	first := ask(b, version, request).(*kmsg.InitProducerIDResponse)
	second := ask(b, version, request).(*kmsg.InitProducerIDResponse)
	fine(first.ErrorCode, nil)
	fine(second.ErrorCode, nil)
	must(first.ProducerID >= 0 && first.ProducerID != second.ProducerID, "another id", second)
	must(first.ProducerEpoch == 0, "epoch 0", first)
}

func offsetForLeaderEpoch(b *broker, version int16) {
	topic := filled(b, name("epoch", version), 2)
	now := lookUp(b, 12, topic).Topics[0].Partitions[0].LeaderEpoch
	partition := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	partition.CurrentLeaderEpoch, partition.LeaderEpoch = now, now
	wanted := kmsg.NewOffsetForLeaderEpochRequestTopic()
	wanted.Topic, wanted.Partitions = topic, append(wanted.Partitions, partition)
	request := kmsg.NewPtrOffsetForLeaderEpochRequest()
	request.ReplicaID, request.Topics = -2, append(request.Topics, wanted)
	found := ask(b, version, request).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
	fine(found.ErrorCode, nil)
	must(found.EndOffset == 2 && found.LeaderEpoch == now, "the end of this epoch", found)
}

func deleteRecords(b *broker, version int16) {
	topic := filled(b, name("delete-records", version), 2)
	partition := kmsg.NewDeleteRecordsRequestTopicPartition()
	partition.Offset = 1
	wanted := kmsg.NewDeleteRecordsRequestTopic()
	wanted.Topic, wanted.Partitions = topic, append(wanted.Partitions, partition)
	request := kmsg.NewPtrDeleteRecordsRequest()
	request.TimeoutMillis, request.Topics = 30_000, append(request.Topics, wanted)
	found := ask(b, version, request).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
	fine(found.ErrorCode, nil)
	must(found.LowWatermark == 1, "a log that starts at 1", found)
}

func apiVersions(b *broker, version int16) {
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "everyversion", "1"
	found := ask(b, version, request).(*kmsg.ApiVersionsResponse)
	fine(found.ErrorCode, nil)
	must(len(found.ApiKeys) == len(scenarios), "as many APIs as are asked here", len(found.ApiKeys))
}
