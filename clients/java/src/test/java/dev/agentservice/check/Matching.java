package dev.agentservice.check;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.LinkedHashMap;
import java.util.regex.Pattern;

/** What the scenario expects against what is there (clients/scenario.md, "Matching"). Knows no client. */
final class Matching {
    /** Something is not as the scenario says. */
    static final class Mismatch extends RuntimeException {
        private static final long serialVersionUID = 1;

        Mismatch(String message) {
            super(message);
        }
    }

    private static final Pattern VARIABLE = Pattern.compile("\\$\\{(\\w+)\\}");

    private Matching() {}

    /** The value with variables in place of their names. */
    static Object filled(Object value, Map<String, String> variables) {
        if (value instanceof String text) {
            return VARIABLE.matcher(text).replaceAll(found -> {
                String variable = variables.get(found.group(1));
                if (variable == null) {
                    throw new Mismatch("${" + found.group(1) + "} was never saved");
                }
                return java.util.regex.Matcher.quoteReplacement(variable);
            });
        }
        if (value instanceof Map<?, ?> map) {
            var filled = new LinkedHashMap<String, Object>();
            map.forEach((key, item) -> filled.put((String) key, filled(item, variables)));
            return filled;
        }
        if (value instanceof List<?> list) {
            return list.stream().map(item -> filled(item, variables)).toList();
        }
        return value;
    }

    /** The scalar at a dotted place, as text. */
    static String found(String place, Object value) {
        Object at = value;
        for (String name : place.split("\\.")) {
            if (at instanceof List<?> list && name.matches("\\d+") && Integer.parseInt(name) < list.size()) {
                at = list.get(Integer.parseInt(name));
            } else if (at instanceof Map<?, ?> map && map.containsKey(name)) {
                at = map.get(name);
            } else {
                throw new Mismatch("save." + place + ": there is none");
            }
        }
        return text(at);
    }

    /** Compare, and throw the first place where they differ. */
    static void match(Object expected, Object actual, String place) {
        boolean isAlike;
        if (expected instanceof Map<?, ?> map && map.get("between") instanceof List<?> bounds) {
            var number = number(actual);
            isAlike = number.isPresent()
                    && number(bounds.get(0)).orElseThrow() < number.getAsDouble()
                    && number.getAsDouble() <= number(bounds.get(1)).orElseThrow();
        } else if (expected instanceof Map<?, ?> map) {
            isAlike = actual instanceof Map<?, ?>;
            if (actual instanceof Map<?, ?> there) {
                map.forEach((key, item) -> match(item, there.get(key), place + "." + key));
            }
        } else if (expected instanceof List<?> list) {
            Object there = actual == null ? List.of() : actual;
            isAlike = there instanceof List<?> items && items.size() == list.size();
            for (int index = 0; isAlike && index < list.size(); index++) {
                match(list.get(index), ((List<?>) there).get(index), place + "." + index);
            }
        } else {
            isAlike = isAlike(text(expected), actual);
        }
        if (!isAlike) {
            throw new Mismatch(place + ": expected " + text(expected) + ", got " + (actual == null ? "nothing" : text(actual)));
        }
    }

    /** The number that it is, or that its text tells. */
    static OptionalDouble number(Object value) {
        try {
            return value == null || value instanceof Boolean
                    ? OptionalDouble.empty()
                    : OptionalDouble.of(Double.parseDouble(text(value)));
        } catch (NumberFormatException none) {
            return OptionalDouble.empty();
        }
    }

    private static boolean isAlike(String expected, Object actual) {
        boolean isNothing = actual == null
                || actual.equals("")
                || actual instanceof Collection<?> list && list.isEmpty()
                || actual instanceof Map<?, ?> map && map.isEmpty();
        if (expected.equals("*") || expected.isEmpty()) {
            return isNothing == expected.isEmpty();
        }
        if (actual == null || actual instanceof Map || actual instanceof List) {
            return false;
        }
        if (expected.startsWith("~")) {
            return text(actual).contains(expected.substring(1));
        }
        var number = number(expected);
        return expected.equals(text(actual)) || number.isPresent() && number.equals(number(actual));
    }

    private static String text(Object value) {
        return String.valueOf(value);
    }
}
