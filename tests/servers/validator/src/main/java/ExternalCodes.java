import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.ConceptValidationOptions;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.context.support.LookupCodeRequest;
import ca.uhn.fhir.context.support.ValidationSupportContext;
import com.google.gson.JsonObject;
import org.hl7.fhir.instance.model.api.IBaseResource;

import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.BiPredicate;
import java.util.regex.Pattern;

/**
 * Code systems and value sets that the FHIR definitions name but do not hold: judged by their form (SNOMED CT, LOINC,
 * RadLex, language tags, media types, SOP classes) or by a short list (DICOM modalities, laterality).
 *
 * <p>A DICOM code that the rule does not accept goes on to the next support of the chain: DSTU2, STU3, R4 and R4B carry
 * an old edition of the DCM code system, marked complete, which lacks the newer modalities.
 */
final class ExternalCodes implements IValidationSupport {
  static final String DCM = "http://dicom.nema.org/resources/ontology/DCM";
  static final String OLD_DCM = "http://nema.org/dicom/dicm";
  static final String SCT = "http://snomed.info/sct";

  private static final Set<String> CID29 = words("AR BI BMD CR CT CFM DMS DG DX ES XC GM IO IVOCT IVUS KER LS LEN MR"
      + " MG NM OAM OPM OP OPT OPTBSV OPTENF OPV OCT OSS PX PA PT RF RG RTIMAGE SM SRF TG US BDUS VA XA"
      + " ECG EPS HD OPR POS"); // the last five: in older editions, or waveforms and newer ones
  private static final Set<String> CID32 = words("ASMT AU CTPROTOCOL DOC FID HC IOL KO M3D OT PLAN PR REG RTDOSE"
      + " RTPLAN RTRECORD RTSTRUCT RWV SEG SMR SR STAIN TEXTUREMAP ANN RTINTENT RTRAD RTSEGANN XAPROTOCOL RESP");
  private static final String RETIRED = "AS|CD|CF|CP|CS|DD|DF|DM|DS|EC|FA|FS|LP|MA|MS|ST|VF";
  private static final Set<String> MODALITY = union(CID29, CID32);
  private static final Set<String> LATERALITY = words("51440002 66459002 24028007 7771000");

  private static final Pattern LANGUAGE = Pattern.compile(
      "(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|\\d{3}))?"
          + "(?:-(?:[A-Za-z0-9]{5,8}|\\d[A-Za-z0-9]{3}))*(?:-[A-WY-Za-wy-z0-9](?:-[A-Za-z0-9]{2,8})+)*"
          + "(?:-[xX](?:-[A-Za-z0-9]{1,8})+)?|[xX](?:-[A-Za-z0-9]{1,8})+");
  private static final Pattern MIME = Pattern.compile(
      "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9*][A-Za-z0-9!#$&^_.+-]{0,126}"
          + "(?:\\s*;\\s*[A-Za-z0-9_.-]+=(?:[^\\s\";]+|\"[^\"]*\"))*");
  private static final Pattern SRT = Pattern.compile("[A-Z]-[0-9A-F]{4,6}");
  private static final Pattern SOP = Pattern.compile("(?:urn:oid:)?1\\.2\\.840\\.10008\\.5\\.1\\.4\\.[0-9.]+");

  /** {@code form}: a code that fails is malformed, an error whatever the binding's strength. */
  private record Rule(boolean form, BiPredicate<String, String> accepts) {}

  private final FhirContext ctx;
  private final Pattern dcm;
  private final Map<String, Pattern> systems = new HashMap<>();
  private final Map<String, Rule> valueSets = new LinkedHashMap<>();
  private final Map<String, IBaseResource> stubs = new ConcurrentHashMap<>();

  ExternalCodes(FhirContext ctx) {
    this.ctx = ctx;
    systems.put(SCT, Pattern.compile("\\d{6,18}"));
    systems.put("urn:ietf:bcp:47", LANGUAGE);
    systems.put("http://loinc.org", Pattern.compile("(?:L[APG])?\\d{1,7}-\\d"));
    systems.put("http://www.radlex.org", Pattern.compile("RP?ID\\d+"));
    systems.put("http://radlex.org", Pattern.compile("RP?ID\\d+"));
    systems.put("http://playbook.radlex.org/playbook/SearchRadlexAction", Pattern.compile("RPID\\d+"));
    dcm = Pattern.compile(String.join("|", MODALITY)
        + "|" + RETIRED + "|ONLINE|NEARLINE|OFFLINE|UNAVAILABLE|\\d{5,6}");
    systems.put(DCM, dcm);
    systems.put(OLD_DCM, dcm);

    String p16 = "http://dicom.nema.org/medical/dicom/current/output/chtml/part16/";
    valueSets.put(p16 + "sect_CID_29.html", new Rule(false, (s, c) -> DCM.equals(s) && CID29.contains(c)));
    valueSets.put(p16 + "sect_CID_33.html", new Rule(false, (s, c) -> DCM.equals(s) && MODALITY.contains(c)));
    valueSets.put(p16 + "sect_CID_244.html", new Rule(false, (s, c) -> SCT.equals(s) && LATERALITY.contains(c)));
    valueSets.put("http://hl7.org/fhir/ValueSet/body-site", new Rule(false, (s, c) -> SCT.equals(s)));
    valueSets.put("http://dicom.nema.org/medical/dicom/current/output/chtml/part04/sect_B.5.html#table_B.5-1",
        new Rule(false, (s, c) -> SOP.matcher(c).matches()));
    Rule language = new Rule(true, (s, c) -> LANGUAGE.matcher(c).matches());
    Rule mime = new Rule(true, (s, c) -> MIME.matcher(c).matches());
    valueSets.put("http://tools.ietf.org/html/bcp47", language);
    valueSets.put("http://hl7.org/fhir/ValueSet/all-languages", language);
    valueSets.put("http://hl7.org/fhir/ValueSet/languages", language); // HAPI makes an error of fr-CA
    valueSets.put("http://www.rfc-editor.org/bcp/bcp13.txt", mime);
    valueSets.put("http://hl7.org/fhir/ValueSet/mimetypes", mime);
    valueSets.put("http://hl7.org/fhir/ValueSet/content-type", mime);
    Rule any = new Rule(false, (s, c) -> true);
    valueSets.put("http://www.rsna.org/RadLex_Playbook.aspx", any);
    valueSets.put("http://loinc.org/vs/loinc-rsna-radiology-playbook", any);
  }

  private static Set<String> words(String s) {
    return new HashSet<>(Arrays.asList(s.split(" ")));
  }

  private static Set<String> union(Set<String> a, Set<String> b) {
    Set<String> r = new HashSet<>(a);
    r.addAll(b);
    return r;
  }

  private static String plain(String url) {
    int bar = url == null ? -1 : url.indexOf('|');
    return bar < 0 ? url : url.substring(0, bar);
  }

  @Override
  public FhirContext getFhirContext() {
    return ctx;
  }

  @Override
  public String getName() {
    return "External codes";
  }

  @Override
  public boolean isCodeSystemSupported(ValidationSupportContext c, String system) {
    return system != null && systems.containsKey(plain(system));
  }

  @Override
  public boolean isValueSetSupported(ValidationSupportContext c, String url) {
    return url != null && valueSets.containsKey(plain(url));
  }

  @Override
  public IBaseResource fetchValueSet(String url) {
    String p = plain(url);
    if (p == null || !valueSets.containsKey(p)) {
      return null;
    }
    return stubs.computeIfAbsent(p, k -> {
      JsonObject o = new JsonObject();
      o.addProperty("resourceType", "ValueSet");
      o.addProperty("url", k);
      o.addProperty("name", k.substring(k.lastIndexOf('/') + 1));
      o.addProperty("status", "active");
      return ctx.newJsonParser().parseResource(o.toString());
    });
  }

  @Override
  public CodeValidationResult validateCodeInValueSet(ValidationSupportContext c, ConceptValidationOptions o,
      String system, String code, String display, IBaseResource valueSet) {
    return judge(system, code, display, ctx.newTerser().getSinglePrimitiveValueOrNull(valueSet, "url"));
  }

  @Override
  public CodeValidationResult validateCode(ValidationSupportContext c, ConceptValidationOptions o, String system,
      String code, String display, String valueSetUrl) {
    if (valueSetUrl != null && !valueSetUrl.isBlank()) {
      return judge(system, code, display, valueSetUrl);
    }
    Pattern p = system == null ? null : systems.get(plain(system));
    if (p == null || code == null) {
      return null;
    }
    if (p.matcher(code).matches()) {
      return new CodeValidationResult().setCode(code).setDisplay(display);
    }
    String message = "Unknown code '" + system + "#" + code + "'";
    if (SCT.equals(plain(system)) && SRT.matcher(code).matches()) { // as in HL7's own imagingstudy-example-xr
      message += ": an old SNOMED-RT style id, not a SNOMED CT concept id";
      return new CodeValidationResult().setCode(code).setSeverity(IssueSeverity.WARNING).setMessage(message).addIssue(
          new CodeValidationIssue(message, IssueSeverity.WARNING, CodeValidationIssueCode.CODE_INVALID,
              CodeValidationIssueCoding.INVALID_CODE));
    }
    if (p == dcm && c.getRootValidationSupport().fetchCodeSystem(system) != null) {
      return null;
    }
    return bad(message, CodeValidationIssueCoding.INVALID_CODE);
  }

  @Override
  public LookupCodeResult lookupCode(ValidationSupportContext c, LookupCodeRequest r) {
    Pattern p = r.getSystem() == null ? null : systems.get(plain(r.getSystem()));
    if (p == null || !p.matcher(r.getCode()).matches()) {
      return null;
    }
    return new LookupCodeResult().setFound(true).setSearchedForCode(r.getCode()).setSearchedForSystem(r.getSystem());
  }

  private CodeValidationResult judge(String system, String code, String display, String url) {
    Rule rule = url == null ? null : valueSets.get(plain(url));
    if (rule == null) {
      return null;
    }
    if (code != null && rule.accepts.test(system, code)) {
      return new CodeValidationResult().setCode(code).setDisplay(display);
    }
    return bad("Code '" + (system == null ? "" : system + "#") + code + "' is not in value set " + url,
        rule.form ? CodeValidationIssueCoding.INVALID_CODE : CodeValidationIssueCoding.NOT_IN_VS);
  }

  private static CodeValidationResult bad(String message, CodeValidationIssueCoding kind) {
    return new CodeValidationResult().setSeverity(IssueSeverity.ERROR).setMessage(message).addIssue(
        new CodeValidationIssue(message, IssueSeverity.ERROR, CodeValidationIssueCode.CODE_INVALID, kind));
  }
}
