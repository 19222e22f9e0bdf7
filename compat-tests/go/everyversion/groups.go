package main

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func init() {
	scenarios[kmsg.OffsetCommit] = func(b *broker, version int16) { commit(b, version, name("commit", version)) }
	scenarios[kmsg.OffsetFetch] = offsetFetch
	scenarios[kmsg.FindCoordinator] = findCoordinator
	scenarios[kmsg.JoinGroup] = func(b *broker, version int16) { join(b, version, name("join", version)) }
	scenarios[kmsg.SyncGroup] = func(b *broker, version int16) { syncGroup(b, version, name("sync", version)) }
	scenarios[kmsg.Heartbeat] = heartbeat
	scenarios[kmsg.LeaveGroup] = leave
	scenarios[kmsg.DescribeGroups] = describeGroups
	scenarios[kmsg.ListGroups] = listGroups
	scenarios[kmsg.DeleteGroups] = deleteGroups
	scenarios[kmsg.OffsetDelete] = offsetDelete
}

const offset = 7

// commit stores an offset of the topic named as the group, which has no members.
func commit(b *broker, version int16, group string) {
	topicOf(b, group)
	partition := kmsg.NewOffsetCommitRequestTopicPartition()
	partition.Offset, partition.Metadata = offset, text("a note")
	wanted := kmsg.NewOffsetCommitRequestTopic()
	wanted.Topic, wanted.Partitions = group, append(wanted.Partitions, partition)
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group, request.Generation, request.Topics = group, -1, append(request.Topics, wanted)
	found := ask(b, version, request).(*kmsg.OffsetCommitResponse)
	must(found.Topics[0].Topic == group, "the topic", found)
	fine(found.Topics[0].Partitions[0].ErrorCode, nil)
}

func offsetFetch(b *broker, version int16) {
	group := name("offset-fetch", version)
	commit(b, 8, group)
	request := kmsg.NewPtrOffsetFetchRequest()
	if version >= 8 {
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		topic.Topic, topic.Partitions = group, []int32{0}
		wanted := kmsg.NewOffsetFetchRequestGroup()
		wanted.Group, wanted.Topics = group, append(wanted.Topics, topic)
		request.Groups = append(request.Groups, wanted)
		found := ask(b, version, request).(*kmsg.OffsetFetchResponse).Groups[0]
		fine(found.ErrorCode, nil)
		partition := found.Topics[0].Partitions[0]
		fine(partition.ErrorCode, nil)
		must(found.Group == group && found.Topics[0].Topic == group, "group and topic", found)
		must(partition.Offset == offset && *partition.Metadata == "a note", "what was committed", partition)
		return
	}
	topic := kmsg.NewOffsetFetchRequestTopic()
	topic.Topic, topic.Partitions = group, []int32{0}
	request.Group, request.Topics = group, append(request.Topics, topic)
	found := ask(b, version, request).(*kmsg.OffsetFetchResponse)
	fine(found.ErrorCode, nil)
	partition := found.Topics[0].Partitions[0]
	fine(partition.ErrorCode, nil)
	must(partition.Offset == offset && *partition.Metadata == "a note", "what was committed", partition)
}

func findCoordinator(b *broker, version int16) {
	group := name("find", version)
	request := kmsg.NewPtrFindCoordinatorRequest()
	request.CoordinatorKey = group
	if version >= 4 {
		request.CoordinatorKeys = []string{group, "another"}
	}
	found := ask(b, version, request).(*kmsg.FindCoordinatorResponse)
	if version < 4 {
		fine(found.ErrorCode, found.ErrorMessage)
		must(found.Port > 0 && found.Host != "", "where it is", found)
		return
	}
	must(len(found.Coordinators) == 2 && found.Coordinators[0].Key == group, "both", found)
	for _, one := range found.Coordinators {
		fine(one.ErrorCode, one.ErrorMessage)
		must(one.Port > 0 && one.Host != "", "where it is", one)
	}
}

// join makes the first member of a group, its leader.
func join(b *broker, version int16, group string) *kmsg.JoinGroupResponse {
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = "range", []byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	request := kmsg.NewPtrJoinGroupRequest()
	request.Group, request.ProtocolType, request.Protocols = group, "consumer", append(request.Protocols, protocol)
	request.SessionTimeoutMillis, request.RebalanceTimeoutMillis = 30_000, 30_000
	found := ask(b, version, request).(*kmsg.JoinGroupResponse)
	if version >= 4 {
		const memberIDRequired = 79
		must(found.ErrorCode == memberIDRequired && found.MemberID != "", "a new member id first", found)
		request.MemberID = found.MemberID
		found = ask(b, version, request).(*kmsg.JoinGroupResponse)
	}
	fine(found.ErrorCode, nil)
	must(found.Generation == 1 && *found.Protocol == "range", "generation 1 of range", found)
	must(found.LeaderID == found.MemberID && len(found.Members) == 1, "a leader", found)
	must(bytes.Equal(found.Members[0].ProtocolMetadata, protocol.Metadata), "its metadata", found)
	return found
}

// syncGroup makes a stable group of one member, and returns the member.
func syncGroup(b *broker, version int16, group string) string {
	member := join(b, 9, group).MemberID
	assignment := kmsg.NewSyncGroupRequestGroupAssignment()
	assignment.MemberID, assignment.MemberAssignment = member, []byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	request := kmsg.NewPtrSyncGroupRequest()
	request.Group, request.Generation, request.MemberID = group, 1, member
	request.ProtocolType, request.Protocol = text("consumer"), text("range")
	request.GroupAssignment = append(request.GroupAssignment, assignment)
	found := ask(b, version, request).(*kmsg.SyncGroupResponse)
	fine(found.ErrorCode, nil)
	must(bytes.Equal(found.MemberAssignment, assignment.MemberAssignment), "its assignment", found)
	must(version < 5 || *found.Protocol == "range" && *found.ProtocolType == "consumer", "range", found)
	return member
}

func heartbeat(b *broker, version int16) {
	group := name("heartbeat", version)
	request := kmsg.NewPtrHeartbeatRequest()
	request.Group, request.Generation, request.MemberID = group, 1, syncGroup(b, 5, group)
	fine(ask(b, version, request).(*kmsg.HeartbeatResponse).ErrorCode, nil)
	const illegalGeneration = 22
	request.Generation = 2
	found := ask(b, version, request).(*kmsg.HeartbeatResponse)
	must(found.ErrorCode == illegalGeneration, "a generation that is wrong", found)
}

func leave(b *broker, version int16) {
	group := name("leave", version)
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group, request.MemberID = group, syncGroup(b, 5, group)
	if version >= 3 {
		member := kmsg.NewLeaveGroupRequestMember()
		member.MemberID = request.MemberID
		request.Members = append(request.Members, member)
	}
	found := ask(b, version, request).(*kmsg.LeaveGroupResponse)
	fine(found.ErrorCode, nil)
	must(version < 3 || len(found.Members) == 1, "the member", found)
	for _, member := range found.Members {
		fine(member.ErrorCode, nil)
	}
	must(described(b, 5, group).State == "Empty", "an empty group", group)
}

func described(b *broker, version int16, group string) kmsg.DescribeGroupsResponseGroup {
	request := kmsg.NewPtrDescribeGroupsRequest()
	request.Groups = append(request.Groups, group)
	found := ask(b, version, request).(*kmsg.DescribeGroupsResponse).Groups[0]
	fine(found.ErrorCode, nil)
	must(found.Group == group, "the group", found)
	return found
}

func describeGroups(b *broker, version int16) {
	group := name("describe", version)
	member := syncGroup(b, 5, group)
	found := described(b, version, group)
	must(found.State == "Stable" && found.ProtocolType == "consumer" && found.Protocol == "range", "it is stable", found)
	must(len(found.Members) == 1 && found.Members[0].MemberID == member, "its member", found)
	must(found.Members[0].ClientID == "everyversion", "who it is", found)
}

func listGroups(b *broker, version int16) {
	group := name("list", version)
	syncGroup(b, 5, group)
	for _, one := range ask(b, version, kmsg.NewPtrListGroupsRequest()).(*kmsg.ListGroupsResponse).Groups {
		if one.Group == group {
			must(one.ProtocolType == "consumer", "its protocol", one)
			must(version < 4 || one.GroupState == "Stable", "its state", one)
			must(version < 5 || one.GroupType == "classic", "its type", one)
			return
		}
	}
	panic("it is not listed")
}

func deleteGroups(b *broker, version int16) {
	group := name("delete-group", version)
	commit(b, 8, group)
	request := kmsg.NewPtrDeleteGroupsRequest()
	request.Groups = append(request.Groups, group)
	fine(ask(b, version, request).(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode, nil)
	const groupIDNotFound = 69
	found := ask(b, version, request).(*kmsg.DeleteGroupsResponse).Groups[0]
	must(found.ErrorCode == groupIDNotFound, "it is gone", found)
}

func offsetDelete(b *broker, version int16) {
	group := name("offset-delete", version)
	commit(b, 8, group)
	topic := kmsg.NewOffsetDeleteRequestTopic()
	topic.Topic, topic.Partitions = group, append(topic.Partitions, kmsg.NewOffsetDeleteRequestTopicPartition())
	request := kmsg.NewPtrOffsetDeleteRequest()
	request.Group, request.Topics = group, append(request.Topics, topic)
	found := ask(b, version, request).(*kmsg.OffsetDeleteResponse)
	fine(found.ErrorCode, nil)
	fine(found.Topics[0].Partitions[0].ErrorCode, nil)
}
