import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A member of a group that tells on its output what it was given, read and committed, one event a
 * line, fields by tabs. It leaves the group when its input ends.
 *
 * <p>Arguments: bootstrap servers, group, topics by commas, then settings as name=value.
 */
public final class Member {
    private static KafkaConsumer<String, String> consumer;

    public static void main(String[] arguments) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("group.id", arguments[1]);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("session.timeout.ms", "6000");
        settings.put("heartbeat.interval.ms", "500");
        for (int number = 3; number < arguments.length; number++) {
            String[] pair = arguments[number].split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(arguments[2].split(",")), new Teller());
        Thread closer = new Thread(Member::waitForEnd);
        closer.setDaemon(true);
        closer.start();
        try {
            while (true) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    tell("read", record.topic(), record.offset(), record.value());
                    commit(record);
                }
            }
        } catch (WakeupException end) {
            consumer.close();
            tell("closed");
        }
    }

    private static void commit(ConsumerRecord<String, String> record) {
        TopicPartition partition = new TopicPartition(record.topic(), record.partition());
        double begun = now();
        try {
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(record.offset() + 1)));
            tell("committed", record.topic(), record.offset() + 1, begun, now());
        } catch (CommitFailedException | RebalanceInProgressException moved) {
            tell("uncommitted", record.topic(), record.offset() + 1);
        }
    }

    /** Seconds of the clock that all programs of a machine share. */
    private static double now() {
        return System.nanoTime() / 1e9;
    }

    private static void waitForEnd() {
        try {
            while (System.in.read() >= 0) {}
        } catch (java.io.IOException gone) {
            // The same as its end.
        }
        consumer.wakeup();
    }

    private static synchronized void tell(Object... fields) {
        System.out.println(
                List.of(fields).stream().map(Object::toString).collect(Collectors.joining("\t")));
    }

    private static final class Teller implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            tell("assigned", names(), now());
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            tell("revoked", names(), now());
        }

        private String names() {
            return consumer.assignment().stream()
                    .map(TopicPartition::topic)
                    .sorted()
                    .collect(Collectors.joining(","));
        }
    }
}
