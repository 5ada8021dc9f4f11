package dev.agentservice.client;

import com.google.protobuf.ListValue;
import com.google.protobuf.NullValue;
import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Java's values as the well-known types of protobuf, and back. */
public final class Values {
    /** Up to here a double, which is what a Struct holds, tells integers apart. */
    private static final long INTEGER_MAX = (1L << 53) - 1;

    private Values() {}

    /** A duration as its well-known type. */
    public static com.google.protobuf.Duration duration(Duration duration) {
        return com.google.protobuf.Duration.newBuilder()
                .setSeconds(duration.getSeconds())
                .setNanos(duration.getNano())
                .build();
    }

    /** And back. */
    public static Duration duration(com.google.protobuf.Duration duration) {
        return Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
    }

    /**
     * What JSON can tell: maps, lists, texts, numbers, booleans and null.
     *
     * @throws IllegalArgumentException for anything else, and for integers above 2^53-1, which a Struct would round
     */
    public static Struct struct(Map<String, ?> map) {
        var struct = Struct.newBuilder();
        map.forEach((key, value) -> struct.putFields(key, value(value)));
        return struct.build();
    }

    /** One value, as in {@link #struct}. */
    public static Value value(Object object) {
        var value = Value.newBuilder();
        if (object == null) {
            value.setNullValue(NullValue.NULL_VALUE);
        } else if (object instanceof String text) {
            value.setStringValue(text);
        } else if (object instanceof Boolean truth) {
            value.setBoolValue(truth);
        } else if (object instanceof Integer || object instanceof Long || object instanceof Short) {
            value.setNumberValue(exact(((Number) object).longValue()));
        } else if (object instanceof Double || object instanceof Float) {
            value.setNumberValue(((Number) object).doubleValue());
        } else if (object instanceof List<?> list) {
            var values = ListValue.newBuilder();
            list.forEach(element -> values.addValues(value(element)));
            value.setListValue(values);
        } else if (object instanceof Map<?, ?> map) {
            var struct = Struct.newBuilder();
            map.forEach((key, element) -> struct.putFields((String) key, value(element)));
            value.setStructValue(struct);
        } else {
            throw new IllegalArgumentException(object.getClass() + " is nothing that JSON can tell");
        }
        return value.build();
    }

    /** A value as Java's: {@code Map}, {@code List}, {@code String}, {@code Double}, {@code Boolean} or null. */
    public static Object object(Value value) {
        return switch (value.getKindCase()) {
            case STRING_VALUE -> value.getStringValue();
            case NUMBER_VALUE -> value.getNumberValue();
            case BOOL_VALUE -> value.getBoolValue();
            case STRUCT_VALUE -> map(value.getStructValue());
            case LIST_VALUE -> {
                List<Object> list = new ArrayList<>();
                value.getListValue().getValuesList().forEach(element -> list.add(object(element)));
                yield list;
            }
            case NULL_VALUE, KIND_NOT_SET -> null;
        };
    }

    /** A struct as Java's map, in its order. */
    public static Map<String, Object> map(Struct struct) {
        Map<String, Object> map = new LinkedHashMap<>();
        struct.getFieldsMap().forEach((key, element) -> map.put(key, object(element)));
        return map;
    }

    private static double exact(long number) {
        if (number > INTEGER_MAX || number < -INTEGER_MAX) {
            throw new IllegalArgumentException(number + " is above 2^53-1: send the arguments as JSON text");
        }
        return number;
    }
}
