import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;

import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * {@code Validate DEFINITIONS}: reads one request a line from stdin and writes one answer a line to stdout, until stdin
 * is closed.
 *
 * <pre>
 * {"number": 7, "version": "R4", "resource": "{...} or &lt;...&gt;", "profiles": ["http://..."]}
 * {"number": 7, "findings": [{"error": true, "location": "...", "id": "...", "message": "..."}]}
 * {"number": 7, "failure": "..."}
 * </pre>
 *
 * Each version has a thread and loads what it needs with its first request; so answers come in any order.
 * {@code DEFINITIONS} is a folder that has a folder for each version with profiles.
 */
public final class Validate {
  private static final Gson GSON = new GsonBuilder().disableHtmlEscaping().serializeNulls().create();

  private Validate() {}

  public static void main(String[] arguments) throws Exception {
    PrintStream answers = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
    System.setOut(System.err); // libraries that print must not come between the answers
    Path definitions = Path.of(arguments[0]);
    Map<String, OneVersion> threads = new HashMap<>();
    BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = requests.readLine()) != null; ) {
      JsonObject request = JsonParser.parseString(line).getAsJsonObject();
      String version = request.get("version").getAsString();
      threads.computeIfAbsent(version, v -> new OneVersion(v, definitions.resolve(v), answers)).requests.add(request);
    }
    Runtime.getRuntime().halt(0); // nobody waits for what is still under way
  }

  private static final class OneVersion extends Thread {
    final BlockingQueue<JsonObject> requests = new LinkedBlockingQueue<>();
    private final Path definitions;
    private final PrintStream answers;
    private Engine engine;

    OneVersion(String version, Path definitions, PrintStream answers) {
      super(version);
      this.definitions = definitions;
      this.answers = answers;
      start();
    }

    @Override
    public void run() {
      while (true) {
        JsonObject answer = new JsonObject();
        try {
          JsonObject request = requests.take();
          answer.add("number", request.get("number"));
          if (engine == null) {
            engine = new Engine(getName(), definitions);
          }
          List<String> profiles = new ArrayList<>();
          for (JsonElement url : request.getAsJsonArray("profiles")) {
            profiles.add(url.getAsString());
          }
          answer.add("findings", engine.check(request.get("resource").getAsString(), profiles));
        } catch (VirtualMachineError e) {
          e.printStackTrace();
          Runtime.getRuntime().halt(1);
        } catch (Throwable e) {
          answer.addProperty("failure", e.toString());
        }
        synchronized (answers) {
          answers.println(GSON.toJson(answer));
          answers.flush();
        }
      }
    }
  }
}
