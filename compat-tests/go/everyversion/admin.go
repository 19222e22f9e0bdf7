package main

import "github.com/twmb/franz-go/pkg/kmsg"

const (
	invalidPartitions  = 37
	securityDisabled   = 54
	topicAlreadyExists = 36
)

func init() {
	scenarios[kmsg.CreateTopics] = createTopics
	scenarios[kmsg.DeleteTopics] = deleteTopics
	scenarios[kmsg.CreatePartitions] = createPartitions
	scenarios[kmsg.DescribeACLs] = describeACLs
	scenarios[kmsg.CreateACLs] = createACLs
	scenarios[kmsg.DeleteACLs] = deleteACLs
	scenarios[kmsg.DescribeConfigs] = describeConfigs
	scenarios[kmsg.AlterConfigs] = alterConfigs
	scenarios[kmsg.IncrementalAlterConfigs] = incrementalAlterConfigs
	scenarios[kmsg.DescribeLogDirs] = describeLogDirs
	scenarios[kmsg.DescribeCluster] = describeCluster
}

func createTopic(b *broker, version int16, topic string) kmsg.CreateTopicsResponseTopic {
	wanted := kmsg.NewCreateTopicsRequestTopic()
	wanted.Topic, wanted.NumPartitions, wanted.ReplicationFactor = topic, 1, 1
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis, request.Topics = 30_000, append(request.Topics, wanted)
	found := ask(b, version, request).(*kmsg.CreateTopicsResponse).Topics[0]
	if found.ErrorCode != topicAlreadyExists {
		fine(found.ErrorCode, found.ErrorMessage)
	}
	return found
}

func createTopics(b *broker, version int16) {
	topic := name("create", version)
	found := createTopic(b, version, topic)
	fine(found.ErrorCode, found.ErrorMessage)
	must(version < 5 || found.NumPartitions == 1 && len(found.Configs) > 0, "one partition, and configs", found)
	must(version < 7 || found.TopicID == idOf(b, topic), "its id", found)
	found = createTopic(b, version, topic)
	must(found.ErrorCode == topicAlreadyExists, "it is there already", found)
}

func deleteTopics(b *broker, version int16) {
	topic := topicOf(b, name("delete", version))
	wanted := kmsg.NewDeleteTopicsRequestTopic()
	wanted.TopicID = idOf(b, topic)
	request := kmsg.NewPtrDeleteTopicsRequest()
	request.TimeoutMillis, request.TopicNames = 30_000, []string{topic}
	request.Topics = append(request.Topics, wanted)
	found := ask(b, version, request).(*kmsg.DeleteTopicsResponse).Topics[0]
	fine(found.ErrorCode, found.ErrorMessage)
	must(*found.Topic == topic, "its name", found)
	fine(createTopic(b, 7, topic).ErrorCode, nil)
}

func createPartitions(b *broker, version int16) {
	wanted := kmsg.NewCreatePartitionsRequestTopic()
	wanted.Topic, wanted.Count = topicOf(b, name("partitions", version)), 3
	request := kmsg.NewPtrCreatePartitionsRequest()
	request.TimeoutMillis, request.Topics = 30_000, append(request.Topics, wanted)
	found := ask(b, version, request).(*kmsg.CreatePartitionsResponse).Topics[0]
	must(found.ErrorCode == invalidPartitions && *found.ErrorMessage != "", "a refusal", found)
}

func describeACLs(b *broker, version int16) {
	request := kmsg.NewPtrDescribeACLsRequest()
	request.ResourceType, request.ResourcePatternType = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeAny
	request.Operation, request.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	found := ask(b, version, request).(*kmsg.DescribeACLsResponse)
	must(found.ErrorCode == securityDisabled, "no authorizer", found)
}

func createACLs(b *broker, version int16) {
	wanted := kmsg.NewCreateACLsRequestCreation()
	wanted.ResourceType, wanted.ResourceName = kmsg.ACLResourceTypeTopic, "t"
	wanted.ResourcePatternType, wanted.Principal, wanted.Host = kmsg.ACLResourcePatternTypeLiteral, "User:anna", "*"
	wanted.Operation, wanted.PermissionType = kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
	request := kmsg.NewPtrCreateACLsRequest()
	request.Creations = append(request.Creations, wanted)
	found := ask(b, version, request).(*kmsg.CreateACLsResponse)
	must(len(found.Results) == 1 && found.Results[0].ErrorCode == securityDisabled, "no authorizer", found)
}

func deleteACLs(b *broker, version int16) {
	wanted := kmsg.NewDeleteACLsRequestFilter()
	wanted.ResourceType, wanted.ResourcePatternType = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeAny
	wanted.Operation, wanted.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	request := kmsg.NewPtrDeleteACLsRequest()
	request.Filters = append(request.Filters, wanted)
	found := ask(b, version, request).(*kmsg.DeleteACLsResponse)
	must(len(found.Results) == 1 && found.Results[0].ErrorCode == securityDisabled, "no authorizer", found)
}

func configOf(b *broker, version int16, topic string) kmsg.DescribeConfigsResponseResourceConfig {
	wanted := kmsg.NewDescribeConfigsRequestResource()
	wanted.ResourceType, wanted.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	wanted.ConfigNames = []string{"retention.ms"}
	request := kmsg.NewPtrDescribeConfigsRequest()
	request.IncludeSynonyms, request.IncludeDocumentation = true, true
	request.Resources = append(request.Resources, wanted)
	found := ask(b, version, request).(*kmsg.DescribeConfigsResponse).Resources[0]
	fine(found.ErrorCode, found.ErrorMessage)
	must(found.ResourceName == topic && len(found.Configs) == 1, "one config of the topic", found)
	must(found.Configs[0].Name == "retention.ms", "the config", found)
	return found.Configs[0]
}

func describeConfigs(b *broker, version int16) {
	found := configOf(b, version, topicOf(b, name("configs", version)))
	must(*found.Value == "604800000" && found.Source == kmsg.ConfigSourceDefaultConfig, "the default", found)
	must(len(found.ConfigSynonyms) == 0, "as Kafka shows a default that its broker has in hours only", found)
	must(version < 3 || found.ConfigType == kmsg.ConfigTypeLong && *found.Documentation != "", "type and words", found)
}

func alterConfigs(b *broker, version int16) {
	config := kmsg.NewAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "retention.ms", text("3600000")
	wanted := kmsg.NewAlterConfigsRequestResource()
	wanted.ResourceType, wanted.ResourceName = kmsg.ConfigResourceTypeTopic, topicOf(b, name("alter", version))
	wanted.Configs = append(wanted.Configs, config)
	request := kmsg.NewPtrAlterConfigsRequest()
	request.Resources = append(request.Resources, wanted)
	found := ask(b, version, request).(*kmsg.AlterConfigsResponse).Resources[0]
	fine(found.ErrorCode, found.ErrorMessage)
	must(*configOf(b, 4, wanted.ResourceName).Value == "3600000", "what was set", found)
}

func incrementalAlterConfigs(b *broker, version int16) {
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value, config.Op = "retention.ms", text("3600000"), kmsg.IncrementalAlterConfigOpSet
	wanted := kmsg.NewIncrementalAlterConfigsRequestResource()
	wanted.ResourceType, wanted.ResourceName = kmsg.ConfigResourceTypeTopic, topicOf(b, name("change", version))
	wanted.Configs = append(wanted.Configs, config)
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	request.Resources = append(request.Resources, wanted)
	found := ask(b, version, request).(*kmsg.IncrementalAlterConfigsResponse).Resources[0]
	fine(found.ErrorCode, found.ErrorMessage)
	must(*configOf(b, 4, wanted.ResourceName).Value == "3600000", "what was set", found)
}

func describeLogDirs(b *broker, version int16) {
	topic := filled(b, name("dirs", version), 1)
	wanted := kmsg.NewDescribeLogDirsRequestTopic()
	wanted.Topic, wanted.Partitions = topic, []int32{0}
	request := kmsg.NewPtrDescribeLogDirsRequest()
	request.Topics = append(request.Topics, wanted)
	found := ask(b, version, request).(*kmsg.DescribeLogDirsResponse)
	fine(found.ErrorCode, nil)
	must(len(found.Dirs) == 1 && len(found.Dirs[0].Topics) == 1, "one directory, one topic", found)
	fine(found.Dirs[0].ErrorCode, nil)
	must(found.Dirs[0].Topics[0].Partitions[0].Size >= int64(len(batch())), "its size", found)
}

func describeCluster(b *broker, version int16) {
	found := ask(b, version, kmsg.NewPtrDescribeClusterRequest()).(*kmsg.DescribeClusterResponse)
	fine(found.ErrorCode, found.ErrorMessage)
	must(found.ClusterID != "" && len(found.Brokers) == 1, "one broker of a cluster", found)
	must(found.ControllerID == found.Brokers[0].NodeID, "a controller", found)
}
