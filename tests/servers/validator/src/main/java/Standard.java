import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;

/** What HL7 published of one FHIR version; its engines share it. */
final class Standard {
  final FhirContext context;
  final DefaultProfileValidationSupport definitions;
  final PrePopulatedValidationSupport patches;
  /** DSTU2 and 1.4.0 come before the terminology services that HAPI has. */
  final boolean old;

  Standard(String version) {
    old = version.equals("DSTU2") || version.equals("1.4.0");
    context = switch (version) {
      case "DSTU2" -> FhirContext.forDstu2Hl7Org();
      case "1.4.0" -> FhirContext.forDstu2_1();
      case "STU3" -> FhirContext.forDstu3();
      case "R4" -> FhirContext.forR4();
      case "R4B" -> FhirContext.forR4B();
      case "R5" -> FhirContext.forR5();
      default -> throw new IllegalArgumentException("there is no official validator for " + version);
    };
    definitions = new DefaultProfileValidationSupport(context);
    patches = new PrePopulatedValidationSupport(context);
    if (version.equals("1.4.0")) {
      Patch21.apply(context, definitions, patches);
    }
  }
}
