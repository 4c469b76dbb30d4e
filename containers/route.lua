-- Sends each instance to the bridge as soon as it is stored.
function OnStoredInstance(instanceId, tags, metadata)
  SendToModality(instanceId, 'bridge')
end
