import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.ConceptValidationOptions;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.context.support.LookupCodeRequest;
import ca.uhn.fhir.context.support.ValidationSupportContext;
import ca.uhn.fhir.context.support.ValueSetExpansionOptions;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.converter.NullVersionConverterAdvisor10_40;
import org.hl7.fhir.convertors.factory.VersionConvertorFactory_10_40;
import org.hl7.fhir.convertors.factory.VersionConvertorFactory_14_40;
import org.hl7.fhir.instance.model.api.IBaseResource;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;

/**
 * The support chain for FHIR 1.0.2 and 1.4.0. HAPI's in-memory terminology refuses 1.4.0 (HAPI-0695, -0699) and
 * throws a NullPointerException for a wrong code of 1.0.2, so the terminology questions go to an R4 chain that sees
 * the old version's value sets and code systems converted to R4. Structure definitions stay as they are.
 */
final class LiftedChain extends ValidationSupportChain {
  private final ValidationSupportChain tx;
  private final ValidationSupportContext txContext;
  private final View view;

  LiftedChain(IValidationSupport... definitions) {
    super(definitions);
    FhirContext r4 = FhirContext.forR4Cached();
    view = new View(r4, this);
    UnknownCodeSystemWarningValidationSupport unknown = new UnknownCodeSystemWarningValidationSupport(r4);
    unknown.setNonExistentCodeSystemSeverity(IssueSeverity.INFORMATION);
    tx = new ValidationSupportChain(
        new ExternalCodes(r4),
        view,
        new CommonCodeSystemsTerminologyService(r4),
        new InMemoryTerminologyServerValidationSupport(r4),
        unknown);
    txContext = new ValidationSupportContext(tx);
  }

  private IBaseResource lift(IBaseResource valueSet) {
    String url = getFhirContext().newTerser().getSinglePrimitiveValueOrNull(valueSet, "url");
    IBaseResource known = url == null ? null : tx.fetchValueSet(url);
    return known != null ? known : View.toR4(valueSet);
  }

  @Override
  public boolean isCodeSystemSupported(ValidationSupportContext c, String system) {
    return tx.isCodeSystemSupported(txContext, system);
  }

  @Override
  public boolean isValueSetSupported(ValidationSupportContext c, String url) {
    return tx.isValueSetSupported(txContext, url);
  }

  @Override
  public CodeValidationResult validateCode(ValidationSupportContext c, ConceptValidationOptions o, String system,
      String code, String display, String valueSetUrl) {
    return tx.validateCode(txContext, o, system, code, display, valueSetUrl);
  }

  @Override
  public CodeValidationResult validateCodeInValueSet(ValidationSupportContext c, ConceptValidationOptions o,
      String system, String code, String display, IBaseResource valueSet) {
    return tx.validateCodeInValueSet(txContext, o, system, code, display, lift(valueSet));
  }

  @Override
  public LookupCodeResult lookupCode(ValidationSupportContext c, LookupCodeRequest r) {
    return tx.lookupCode(txContext, r);
  }

  @Override
  public ValueSetExpansionOutcome expandValueSet(ValidationSupportContext c, ValueSetExpansionOptions o,
      IBaseResource valueSet) {
    return tx.expandValueSet(txContext, o, lift(valueSet));
  }

  /** The old version's value sets and code systems, converted on demand. */
  private static final class View implements IValidationSupport {
    private final FhirContext r4;
    private final IValidationSupport from;
    private final Map<String, Optional<IBaseResource>> cache = new ConcurrentHashMap<>();

    View(FhirContext r4, IValidationSupport from) {
      this.r4 = r4;
      this.from = from;
    }

    static IBaseResource toR4(IBaseResource r) {
      if (r instanceof org.hl7.fhir.dstu2016may.model.Resource old) {
        return VersionConvertorFactory_14_40.convertResource(old);
      }
      if (r instanceof org.hl7.fhir.dstu2.model.Resource old) {
        return VersionConvertorFactory_10_40.convertResource(old, new NullVersionConverterAdvisor10_40());
      }
      return r;
    }

    private static IBaseResource system(IBaseResource r) {
      if (!(r instanceof org.hl7.fhir.dstu2.model.ValueSet vs)) {
        return toR4(r);
      }
      org.hl7.fhir.r4.model.CodeSystem cs = new org.hl7.fhir.r4.model.CodeSystem(); // 1.0.2 keeps it in a value set
      cs.setUrl(vs.getCodeSystem().getSystem());
      cs.setName(vs.getName());
      cs.setContent(org.hl7.fhir.r4.model.CodeSystem.CodeSystemContentMode.COMPLETE);
      cs.setCaseSensitive(!vs.getCodeSystem().hasCaseSensitive() || vs.getCodeSystem().getCaseSensitive());
      copy(vs.getCodeSystem().getConcept(), cs.getConcept());
      return cs;
    }

    private static void copy(List<org.hl7.fhir.dstu2.model.ValueSet.ConceptDefinitionComponent> from,
        List<org.hl7.fhir.r4.model.CodeSystem.ConceptDefinitionComponent> to) {
      for (org.hl7.fhir.dstu2.model.ValueSet.ConceptDefinitionComponent c : from) {
        org.hl7.fhir.r4.model.CodeSystem.ConceptDefinitionComponent d =
            new org.hl7.fhir.r4.model.CodeSystem.ConceptDefinitionComponent();
        d.setCode(c.getCode()).setDisplay(c.getDisplay());
        to.add(d);
        copy(c.getConcept(), d.getConcept());
      }
    }

    @Override
    public FhirContext getFhirContext() {
      return r4;
    }

    @Override
    public IBaseResource fetchValueSet(String url) {
      return cache.computeIfAbsent("v" + url, k -> Optional.ofNullable(toR4(from.fetchValueSet(url)))).orElse(null);
    }

    @Override
    public IBaseResource fetchCodeSystem(String url) {
      return cache.computeIfAbsent("c" + url, k -> Optional.ofNullable(system(from.fetchCodeSystem(url)))).orElse(null);
    }
  }
}
