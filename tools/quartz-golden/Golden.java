import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.text.ParseException;
import java.time.Instant;
import java.time.ZoneId;
import java.time.zone.ZoneOffsetTransition;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.Random;
import java.util.TimeZone;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.quartz.CronExpression;

/** Asks Quartz for the next fires of expressions and prints them; see ../quartz-golden. */
public final class Golden {
    private static final long FIRST = Instant.parse("2011-01-01T00:00:00Z").getEpochSecond();
    private static final long LAST = Instant.parse("2022-01-01T00:00:00Z").getEpochSecond();
    /** Quartz looks a hundred years ahead of the day it runs; so that the answers do not depend on that day. */
    private static final long END = Instant.parse("2101-01-01T00:00:00Z").getEpochSecond();
    private static final long HOURS_30 = 30 * 3600;
    private static final int PREVIEWS_PER_ZONE = 345;

    // Zones with every kind of change: none, half an hour, at midnight, a day, for good, in winter.
    private static final String[] ZONES = {
        "UTC", "Asia/Shanghai", "Asia/Kolkata", "Asia/Tokyo", "America/New_York", "America/Chicago", "America/Denver",
        "America/Los_Angeles", "America/Anchorage", "America/Toronto", "America/Mexico_City", "America/Sao_Paulo",
        "America/Santiago", "America/Havana", "America/Nuuk", "America/St_Johns", "America/Caracas", "Europe/London",
        "Europe/Berlin", "Europe/Dublin", "Europe/Istanbul", "Europe/Moscow", "Africa/Cairo", "Africa/Casablanca",
        "Asia/Tehran", "Asia/Beirut", "Asia/Amman", "Asia/Jerusalem", "Asia/Pyongyang", "Australia/Sydney",
        "Australia/Lord_Howe", "Pacific/Auckland", "Pacific/Apia",
    };

    private final ExecutorService asked = Executors.newCachedThreadPool(run -> {
        Thread thread = new Thread(run);
        thread.setDaemon(true);
        return thread;
    });
    private final PrintStream out;

    private Golden(PrintStream out) {
        this.out = out;
    }

    public static void main(String[] args) throws Exception {
        Golden golden = new Golden(System.out);
        List<String> expressions = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            if (!line.isEmpty() && !line.startsWith("#")) {
                expressions.add(line);
            }
        }
        golden.out.println("# Made by tools/quartz-golden with Quartz " + args[1] + ": expression, `from`, the next fires;");
        golden.out.println("# times are seconds since 1970, fires are seconds after the time before. `refused`: by Quartz.");
        golden.meanings(expressions);
        golden.previews(expressions);
    }

    /** Each expression, where no clock is changed. */
    private void meanings(List<String> expressions) {
        out.println("zone UTC");
        Random random = new Random(1);
        for (String text : expressions) {
            CronExpression cron = read(text, "UTC");
            if (cron == null) {
                out.println(text + "\trefused");
                continue;
            }
            for (int i = 0; i < 4; i++) {
                ask(cron, text, FIRST + random.nextLong(LAST - FIRST), 6);
            }
        }
    }

    private void previews(List<String> expressions) {
        for (int z = 0; z < ZONES.length; z++) {
            out.println("zone " + ZONES[z]);
            Random random = new Random(100 + z);
            List<ZoneOffsetTransition> changes = changes(ZONES[z]);
            int done = 0;
            while (done < PREVIEWS_PER_ZONE) {
                String text = random.nextInt(3) == 0
                    ? expressions.get(random.nextInt(expressions.size())) : expression(random);
                long from = FIRST + random.nextLong(LAST - FIRST);
                if (!changes.isEmpty() && random.nextInt(3) > 0) {
                    long change = changes.get(random.nextInt(changes.size())).toEpochSecond();
                    from = change - HOURS_30 + random.nextLong(HOURS_30 + HOURS_30 / 6);
                }
                CronExpression cron = read(text, ZONES[z]);
                if (cron != null) {
                    ask(cron, text, from, 3);
                    done++;
                }
            }
        }
    }

    private static List<ZoneOffsetTransition> changes(String zone) {
        List<ZoneOffsetTransition> changes = new ArrayList<>();
        Instant at = Instant.ofEpochSecond(FIRST);
        while (true) {
            ZoneOffsetTransition change = ZoneId.of(zone).getRules().nextTransition(at);
            if (change == null || change.toEpochSecond() > LAST) {
                return changes;
            }
            changes.add(change);
            at = change.getInstant();
        }
    }

    /** Mostly at night, when clocks are changed. */
    private static String expression(Random random) {
        String[] seconds = {"0", "0", "0", "30", "0,30", "*/20"};
        String[] minutes = {"0", "30", "15", "45", "59", "0/15", "*/20", "15,45", "*", "50-10/10"};
        String[] hours = {"0", "1", "2", "3", "23", "0-3", "*/2", "22-2", "1,2", "*", "12"};
        String[] days = {
            "* * ?", "* * ?", "* * ?", "? * SUN", "? * SAT", "? * FRI-MON", "? * 1L", "? * 1#2", "? * 7L", "L * ?",
            "L-1 * ?", "LW * ?", "27 3 ?", "? 3,4,9,10,11 SUN", "25-31 * ?", "1,15 * ?", "? * MON-FRI", "30 12 ?",
            "*/3 * ?", "29 * ?",
        };
        return pick(random, seconds) + " " + pick(random, minutes) + " " + pick(random, hours) + " "
            + pick(random, days);
    }

    private static String pick(Random random, String[] among) {
        return among[random.nextInt(among.length)];
    }

    private static CronExpression read(String text, String zone) {
        try {
            CronExpression cron = new CronExpression(text);
            cron.setTimeZone(TimeZone.getTimeZone(zone));
            return cron;
        } catch (ParseException refused) {
            return null;
        }
    }

    private void ask(CronExpression cron, String text, long from, int count) {
        StringBuilder line = new StringBuilder(text).append('\t').append(from).append('\t');
        Future<String> fires = asked.submit(() -> fires(cron, from, count));
        try {
            line.append(fires.get(10, TimeUnit.SECONDS));
        } catch (TimeoutException never) {
            line.append("hangs");
        } catch (Exception failed) {
            line.append("fails");
        }
        out.println(line);
    }

    private static String fires(CronExpression cron, long from, int count) {
        StringBuilder fires = new StringBuilder();
        long at = from;
        for (int i = 0; i < count; i++) {
            Date next = cron.getNextValidTimeAfter(new Date(at * 1000));
            if (next == null || next.getTime() / 1000 >= END) {
                return fires.append(" end").toString().trim();
            }
            long seconds = next.getTime() / 1000;
            fires.append(' ').append(seconds - at);
            at = seconds;
        }
        return fires.toString().trim();
    }
}
