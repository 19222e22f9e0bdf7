import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Writes numbered values to each topic, idempotently and with acks=all as is the default, and tells
 * each acknowledged one: "acked", topic, offset, value.
 *
 * <p>Arguments: bootstrap servers, topics by commas, prefix of the values, how many, milliseconds
 * between them, then settings as name=value.
 */
public final class Writer {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("delivery.timeout.ms", "60000");
        settings.put("request.timeout.ms", "5000");
        for (int number = 5; number < arguments.length; number++) {
            String[] pair = arguments[number].split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        String[] topics = arguments[1].split(",");
        int count = Integer.parseInt(arguments[3]);
        long pauseMs = Long.parseLong(arguments[4]);
        List<Future<RecordMetadata>> futures = new ArrayList<>();
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < count; number++) {
                for (String topic : topics) {
                    String value = topic + "/" + arguments[2] + number;
                    futures.add(
                            producer.send(
                                    new ProducerRecord<>(topic, null, value),
                                    (where, error) -> tell(where, error, value)));
                }
                if (pauseMs > 0) {
                    Thread.sleep(pauseMs);
                }
            }
            for (Future<RecordMetadata> future : futures) {
                future.get();
            }
        }
        System.out.println("closed");
    }

    private static void tell(RecordMetadata where, Exception error, String value) {
        if (error == null) {
            System.out.println("acked\t" + where.topic() + "\t" + where.offset() + "\t" + value);
        } else {
            System.out.println("failed\t" + value + "\t" + error);
        }
    }
}
