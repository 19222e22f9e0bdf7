import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;

/**
 * Configs of a consumer group, by the Admin of Java's clients from 4.0 on, which is the first that
 * knows them.
 *
 * <p>Arguments: bootstrap servers, the name of a group.
 */
public final class GroupConfigs {
    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0]);
        try (Admin admin = Admin.create(settings)) {
            String session = "consumer.session.timeout.ms";
            ConfigResource ours = new ConfigResource(ConfigResource.Type.GROUP, arguments[1]);
            DescribeConfigsOptions options =
                    new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
            ConfigEntry entry = admin.describeConfigs(List.of(ours), options).all().get().get(ours).get(session);
            check("45000".equals(entry.value()) && entry.isDefault(), "the default");
            check(entry.type() == ConfigEntry.ConfigType.INT && entry.documentation() != null, "explained");
            admin.incrementalAlterConfigs(Map.of(ours, List.of(set(session, "50000")))).all().get();
            entry = admin.describeConfigs(List.of(ours), options).all().get().get(ours).get(session);
            check("50000".equals(entry.value()), "the value");
            check(entry.source() == ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG, "the source");
            check(entry.synonyms().size() == 2, "synonyms");
            refused(
                    admin.incrementalAlterConfigs(Map.of(ours, List.of(set(session, "1")))).all(),
                    InvalidConfigurationException.class);
            refused(
                    admin.incrementalAlterConfigs(Map.of(ours, List.of(set("retention.ms", "1")))).all(),
                    InvalidConfigurationException.class);
            AlterConfigOp delete =
                    new AlterConfigOp(new ConfigEntry(session, null), AlterConfigOp.OpType.DELETE);
            admin.incrementalAlterConfigs(Map.of(ours, List.of(delete))).all().get();
            entry = admin.describeConfigs(List.of(ours), options).all().get().get(ours).get(session);
            check(entry.isDefault(), "deleted means default");
        }
        System.out.println("closed");
    }

    private static AlterConfigOp set(String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void refused(KafkaFuture<?> asked, Class<? extends Exception> why)
            throws InterruptedException {
        try {
            asked.get();
        } catch (ExecutionException refusal) {
            check(why.isInstance(refusal.getCause()), "refused by " + refusal.getCause());
            return;
        }
        throw new AssertionError("not refused");
    }
}
